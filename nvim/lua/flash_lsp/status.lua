--- What the server said last about its engine, in words for a statusline.

local M = {}

---@class flash_lsp.Model
---@field name string
---@field path string
---@field architecture string
---@field backend string
---@field parameters integer
---@field contextTokens integer
---@field memoryBytes integer
---@field threads integer
---@field loadMs number
---@field notices string[]

---@class flash_lsp.Status
---@field state 'starting'|'loading'|'ready'|'failed'|'closed'|'disabled'|'stopped'
---@field message string
---@field fraction? number how much of the loading is done, in 0..1
---@field model? flash_lsp.Model

---@type flash_lsp.Status
local STOPPED = { state = 'stopped', message = 'the server is not running' }

M.present = STOPPED ---@type flash_lsp.Status

---@param value any
---@return any
local function without_null(value)
  return value ~= vim.NIL and value or nil
end

---@param status? flash_lsp.Status
function M.update(status)
  if not status then
    return
  end
  M.present = {
    state = status.state,
    message = status.message,
    fraction = without_null(status.fraction),
    model = without_null(status.model),
  }
  vim.api.nvim_exec_autocmds('User', {
    pattern = 'FlashLspStatus',
    data = M.present,
    modeline = false,
  })
  vim.cmd.redrawstatus()
end

---@param code integer
---@param signal integer
function M.stopped(code, signal)
  local is_crash = code ~= 0 and signal ~= 15
  local crashed = ('the server ended with exit code %d'):format(code)
  M.update(is_crash and { state = 'failed', message = crashed } or STOPPED)
end

--- One short text: the model when it is ready, how far its loading is, or what went wrong.
---@return string
function M.line()
  local status = M.present
  if status.state == 'ready' then
    local name = status.model and status.model.name or 'ready'
    return name:match('([^/\\]+)%.gguf$') or name
  elseif status.fraction then
    return ('%s %d%%'):format(status.state, math.floor(100 * status.fraction))
  elseif status.state == 'disabled' then
    return 'paused'
  end
  return status.state
end

return M
