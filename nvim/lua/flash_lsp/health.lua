--- :checkhealth flash_lsp

local client = require('flash_lsp.client')
local config = require('flash_lsp.config')
local status = require('flash_lsp.status')

local health = vim.health
local M = {}

local DOCTOR_MS = 120000 -- it runs the default model for a moment

local function check_neovim()
  local version = tostring(vim.version())
  if vim.fn.has('nvim-0.11') == 0 then
    health.error(('Neovim is %s, expected 0.11 or newer'):format(version))
  else
    local drawers = {
      builtin = 'Neovim draws suggestions (vim.lsp.inline_completion)',
      plugin = 'the plugin draws suggestions',
      off = 'nobody draws suggestions: ghost_text is "off"',
    }
    health.ok(('Neovim %s; %s'):format(version, drawers[config.ghost_text()]))
  end
end

--- The command line of another of flash-lsp's commands; nil for a server started in another way.
---@param ... string
---@return string[]?
local function command_line(...)
  local command = {} ---@type string[]
  local configured = vim.lsp.config[client.NAME].cmd
  for _, word in ipairs(type(configured) == 'table' and configured or {}) do
    if word == 'serve' then
      return vim.list_extend(command, { ... })
    end
    command[#command + 1] = word
  end
  return nil
end

---@param command string[]
---@return vim.SystemCompleted
local function run(command)
  local is_started, process = pcall(vim.system, command, { text = true, timeout = DOCTOR_MS })
  if not is_started then
    return { code = 1, signal = 0, stdout = '', stderr = tostring(process) }
  end
  return process:wait()
end

---@return boolean whether its other commands can be asked
local function check_server()
  local command = vim.lsp.config[client.NAME].cmd
  local program = type(command) == 'table' and command[1]
  if program and vim.fn.executable(program) == 0 then
    health.error(('%s is not executable'):format(program), {
      'install flash-lsp: pip install flash-lsp, or from its folder: pip install .',
      'or say where it is: require("flash_lsp").setup { cmd = { "/path/to/flash-lsp", "serve" } }',
    })
    return false
  end
  local asked = command_line('--version')
  if not asked then
    health.info('the server is started by a command of your own; the doctor was not asked')
    return false
  end
  local answer = run(asked)
  if answer.code ~= 0 then
    health.error(('%s failed: %s'):format(table.concat(asked, ' '), vim.trim(answer.stderr)))
    return false
  end
  health.ok(('%s (%s)'):format(vim.trim(answer.stdout), vim.fn.exepath(asked[1])))
  return true
end

local function check_client()
  local found = client.find()
  if not found then
    health.warn('the server is not running', { 'open a file; then see :FlashLsp log' })
    return
  end
  local n_buffers = vim.tbl_count(found.attached_buffers)
  health.ok(('the server runs for %d buffer(s), positions in %s'):format(n_buffers, found.offset_encoding))
  local report = status.present.state == 'failed' and health.error or health.ok
  report(('engine: %s (%s)'):format(status.line(), status.present.message))
end

local function check_doctor()
  local command = command_line('doctor', '--json') --[[@as string[] ]]
  local answer = run(command)
  local is_read, found = pcall(vim.json.decode, answer.stdout)
  if answer.code ~= 0 or not is_read then
    health.error(('%s failed: %s'):format(table.concat(command, ' '), vim.trim(answer.stderr)))
    return
  end
  for _, problem in ipairs(found.problems) do
    health.warn(problem.what, { problem['do'] })
  end
  if #found.problems == 0 then
    health.ok('the doctor found no problems')
  end
  health.info(('processor: %s, kernels: %s'):format(found.cpu.name, found.cpu.instruction_set))
  health.info('recommended model: ' .. found.recommended_model)
end

function M.check()
  health.start('flash-lsp')
  check_neovim()
  local is_ours = check_server()
  check_client()
  if is_ours then
    health.start('flash-lsp doctor')
    check_doctor()
  end
end

return M
