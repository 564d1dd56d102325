--- The language client: how the server is started, found and talked to. One server, and so one
--- model in memory, serves every project that is open.

local config = require('flash_lsp.config')

local M = {}

M.NAME = 'flash_lsp'

---@alias flash_lsp.Answer fun(result: any)

---@param folder string
---@param client vim.lsp.Client
local function add_folder(client, folder)
  local uri = vim.uri_from_fname(folder)
  for _, known in ipairs(client.workspace_folders or {}) do
    if known.uri == uri then
      return
    end
  end
  local added = { uri = uri, name = vim.fs.basename(folder) }
  client.workspace_folders = vim.list_extend(client.workspace_folders or {}, { added })
  client:notify('workspace/didChangeWorkspaceFolders', { event = { added = { added }, removed = {} } })
end

---@param client vim.lsp.Client
---@param wanted vim.lsp.ClientConfig
---@return boolean
local function reuse_client(client, wanted)
  if client.name ~= wanted.name or client:is_stopped() then
    return false
  end
  if wanted.root_dir then
    add_folder(client, wanted.root_dir)
  end
  return true
end

local function watch_attaching()
  vim.api.nvim_create_autocmd('LspAttach', {
    group = vim.api.nvim_create_augroup('flash_lsp', {}),
    desc = 'flash-lsp: suggestions and their keys',
    callback = function(event)
      local client = vim.lsp.get_client_by_id(event.data.client_id)
      if client and client.name == M.NAME then
        require('flash_lsp.suggestions').attach(client, event.buf)
        require('flash_lsp.keymaps').attach(event.buf)
      end
    end,
  })
end

--- The configuration for vim.lsp.config, from what the user chose.
---@return vim.lsp.Config
function M.config()
  watch_attaching()
  local options, status = config.options, require('flash_lsp.status')
  local section = next(options.settings) and options.settings or nil
  return {
    cmd = options.cmd,
    filetypes = options.filetypes,
    root_markers = options.root_markers,
    settings = { flashLsp = section },
    capabilities = {
      textDocument = { inlineCompletion = { dynamicRegistration = false } },
      -- Neovim has both and says neither before 0.12: versions of edits, and this request.
      workspace = { workspaceEdit = { documentChanges = true }, applyEdit = true },
    },
    reuse_client = reuse_client,
    handlers = {
      ['flash/didChangeStatus'] = function(_, result)
        status.update(result)
      end,
      ['flash/edit'] = function(_, result)
        require('flash_lsp.edit').progress(result)
      end,
      ['window/logMessage'] = function(err, result, ctx)
        require('flash_lsp.log').add(result)
        return vim.lsp.handlers['window/logMessage'](err, result, ctx)
      end,
    },
    on_init = function(client)
      client:request('flash/status', nil, function(_, result)
        status.update(result)
      end)
    end,
    on_exit = function(code, signal)
      vim.schedule(function()
        status.stopped(code, signal)
      end)
    end,
  }
end

--- The running client, or nil.
---@param buf? integer only if it serves this buffer
---@return vim.lsp.Client?
function M.find(buf)
  return vim.lsp.get_clients({ name = M.NAME, bufnr = buf })[1]
end

--- Ask the server; what goes wrong is shown to the user.
---@param method string
---@param params? table
---@param answer flash_lsp.Answer
function M.ask(method, params, answer)
  local client = M.find()
  if not client then
    M.complain('the server is not running; :checkhealth flash_lsp says why')
    return
  end
  client:request(method, params, function(err, result)
    if err then
      M.complain(('%s: %s'):format(method, err.message))
    else
      answer(result)
    end
  end)
end

--- Whether the server executes a command.
---@param client vim.lsp.Client
---@param command string
---@return boolean
function M.can_execute(client, command)
  local provider = client.server_capabilities.executeCommandProvider
  return provider ~= nil and vim.list_contains(provider.commands or {}, command)
end

---@param message string
---@param level? integer
function M.say(message, level)
  vim.notify('flash-lsp: ' .. message, level or vim.log.levels.INFO)
end

---@param message string
function M.complain(message)
  M.say(message, vim.log.levels.ERROR)
end

--- Change one of the server's settings until Neovim ends.
---@param name string
---@param value any
function M.set(name, value)
  local client = M.find()
  if not client then
    M.complain('the server is not running; :checkhealth flash_lsp says why')
    return
  end
  local changed = { flashLsp = { [name] = value } }
  client.settings = vim.tbl_deep_extend('force', client.settings, changed)
  client:notify('workspace/didChangeConfiguration', { settings = client.settings })
end

return M
