--- The server's latest messages, for :FlashLsp log.

local M = {}

local N_KEPT = 200
local KINDS = { 'error', 'warning', 'info', 'log', 'debug' }

---@type string[]
M.lines = {}

---@param message lsp.LogMessageParams
function M.add(message)
  local kind = KINDS[message.type] or 'log'
  for _, line in ipairs(vim.split(message.message, '\n', { plain = true })) do
    M.lines[#M.lines + 1] = ('%s %-7s %s'):format(os.date('%H:%M:%S'), kind, line)
  end
  M.lines = vim.list_slice(M.lines, math.max(1, #M.lines - N_KEPT + 1))
end

return M
