--- Suggestions drawn by Neovim 0.12 itself (|lsp-inline_completion|). Adds what it lacks: parts of a
--- suggestion, reports to the server, several to choose from, and a request that is cancelled by the
--- next one.

local text = require('flash_lsp.text')

local api = vim.api
local M = {}

local METHOD = 'textDocument/inlineCompletion'
local REQUEST_CANCELLED = -32800
local NAMESPACE = 'nvim.lsp.inline_completion'

---@class flash_lsp.BuiltinState
---@field client vim.lsp.Client
---@field request_id? integer
---@field items lsp.InlineCompletionItem[]
---@field index integer
---@field shown table<integer, true>
---@field is_asked? boolean the next request is the user's, who wants all there are
---@field has_all? boolean the items are the answer to such a request
---@field step? integer how to go on from the first of them

local states = {} ---@type table<integer, flash_lsp.BuiltinState>
local watched = {} ---@type table<integer, true> by client id

---@param buf integer
local function report_shown(buf)
  local state = states[buf]
  local item = state.items[state.index]
  if item and not state.shown[state.index] and M.visible(buf) then
    state.shown[state.index] = true
    state.client:notify('textDocument/didShowCompletion', { item = item })
  end
end

---@param buf integer
---@param result? lsp.InlineCompletionList|lsp.InlineCompletionItem[]
---@param has_all boolean
local function remember(buf, result, has_all)
  local state = states[buf]
  if state then
    state.items, state.index, state.shown = result and (result.items or result) or {}, 1, {}
    state.has_all = has_all
    report_shown(buf)
    local step = state.step
    state.step = nil
    if step and has_all then
      M.cycle(buf, step)
    end
  end
end

--- Let each request cancel the one before, drop answers that come too late, and see what is shown:
--- Neovim does none of it, and has no event for it.
---@param client vim.lsp.Client
local function watch(client)
  if watched[client.id] then
    return
  end
  watched[client.id] = true
  local request = client.request
  ---@diagnostic disable-next-line: duplicate-set-field
  client.request = function(self, method, params, handler, buf)
    local state = buf and states[buf]
    if method ~= METHOD or not handler or not state then
      return request(self, method, params, handler, buf)
    end
    if state.request_id and self.requests[state.request_id] then
      self:cancel_request(state.request_id)
    end
    local is_asked = state.is_asked == true
    state.is_asked = nil
    if is_asked then
      params.context.triggerKind = vim.lsp.protocol.InlineCompletionTriggerKind.Invoked
    end
    local is_sent, id
    is_sent, id = request(self, method, params, function(err, result, context)
      if state.request_id ~= id or (err and err.code == REQUEST_CANCELLED) then
        return
      end
      state.request_id = nil
      handler(err, result, context)
      remember(buf, result, is_asked)
    end, buf)
    state.request_id = is_sent and id or nil
    return is_sent, id
  end
end

---@param client vim.lsp.Client
---@param buf integer
function M.attach(client, buf)
  states[buf] = { client = client, items = {}, index = 1, shown = {} }
  watch(client)
  vim.lsp.inline_completion.enable(true, { bufnr = buf })
end

---@param buf integer
---@return boolean
function M.visible(buf)
  local namespace = api.nvim_get_namespaces()[NAMESPACE]
  return namespace ~= nil and #api.nvim_buf_get_extmarks(buf, namespace, 0, -1, { limit = 1 }) > 0
end

--- The item with the given piece of what is not typed yet, replacing all that was typed of it.
---@param item vim.lsp.inline_completion.Item
---@param buf integer
---@param piece flash_lsp.Piece
---@return vim.lsp.inline_completion.Item?
local function cut(item, buf, piece)
  local state = states[buf]
  local sent = item.insert_text
  if type(sent) ~= 'string' or not item.range then
    return item
  end
  local encoding = state.client.offset_encoding
  local position = vim.lsp.util.make_position_params(0, encoding).position
  local first_row, first_col, last_row, last_col = item.range:to_extmark()
  local cursor = api.nvim_win_get_cursor(0)
  local row, col = cursor[1] - 1, cursor[2]
  if row < first_row or (row == first_row and col < first_col) then
    return nil
  end
  local whole = text.with_line_feeds(sent)
  local lines = api.nvim_buf_get_text(buf, first_row, first_col, row, col, {})
  local typed = table.concat(lines, '\n')
  if not vim.startswith(whole, typed) then
    return nil -- the text went another way since
  end
  local rest = whole:sub(#typed + 1)
  local accepted = typed .. text.first(rest, piece)
  local is_beyond = row > last_row or (row == last_row and col > last_col)
  if is_beyond or #accepted < #whole then
    local start = { line = first_row, character = 0 }
    local line = api.nvim_buf_get_lines(buf, first_row, first_row + 1, true)[1]
    start.character = vim.str_utfindex(line, encoding, first_col, false)
    item.range = vim.range.lsp(buf, { start = start, ['end'] = position }, encoding)
  end
  item.insert_text = accepted
  if #accepted < #whole then
    item.command = nil
    state.client:notify('textDocument/didPartiallyAcceptCompletion', {
      item = state.items[state.index],
      acceptedLength = text.utf16_length(accepted, sent),
    })
  end
  return item
end

---@param buf integer
---@param piece flash_lsp.Piece
function M.accept(buf, piece)
  vim.lsp.inline_completion.get({
    bufnr = buf,
    on_accept = function(item)
      vim.go.undolevels = vim.go.undolevels -- ends the undo step of what was typed before
      return cut(item, buf, piece)
    end,
  })
end

--- Show the one so many steps on. What came by itself is one: all there are is asked for first.
---@param buf integer
---@param step integer
function M.cycle(buf, step)
  if not states[buf].has_all then
    states[buf].step = step
    M.suggest(buf)
    return
  end
  vim.lsp.inline_completion.select({ bufnr = buf, count = step })
  local state = states[buf]
  state.index = (state.index - 1 + step) % math.max(1, #state.items) + 1
  report_shown(buf)
end

---@param buf integer
function M.dismiss(buf)
  vim.lsp.inline_completion.enable(false, { bufnr = buf })
  vim.lsp.inline_completion.enable(true, { bufnr = buf })
end

--- Ask at once. Neovim has no function for it; what it does when the cursor moves is this.
---@param buf integer
function M.suggest(buf)
  states[buf].is_asked = true
  local group = ('%s:%d'):format(NAMESPACE, buf)
  api.nvim_exec_autocmds('CursorMovedI', { group = group, buffer = buf, modeline = false })
end

return M
