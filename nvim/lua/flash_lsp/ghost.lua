--- Suggestions drawn by this plugin, in Neovim 0.11 or by choice: asked for at every change, shown
--- as virtual text, kept while the user types along. The server waits for quiet, not this client.
--- Each request cancels the one before, so that at most one is in flight.

local text = require('flash_lsp.text')

local api = vim.api
local M = {}

local METHOD = 'textDocument/inlineCompletion'
local INVOKED, AUTOMATIC = 1, 2 -- InlineCompletionTriggerKind
local namespace = api.nvim_create_namespace('flash_lsp.ghost')

---@class flash_lsp.Candidate
---@field item lsp.InlineCompletionItem
---@field text string what is inserted at row and col, with line feeds
---@field row integer from zero
---@field col integer in bytes
---@field n_replaced integer bytes after the cursor which it replaces
---@field is_shown boolean whether the server knows it was shown

---@class flash_lsp.Suggestion
---@field candidates flash_lsp.Candidate[]
---@field index integer
---@field tail string the line after the cursor at the time; another one makes it stale
---@field is_invoked boolean asked for with all its alternatives

---@class flash_lsp.GhostState
---@field client vim.lsp.Client
---@field request_id? integer the request in flight
---@field place? string the text and cursor looked at last
---@field suggestion? flash_lsp.Suggestion

local states = {} ---@type table<integer, flash_lsp.GhostState>

---@return integer row from zero
---@return integer col in bytes
local function cursor()
  local place = api.nvim_win_get_cursor(0)
  return place[1] - 1, place[2]
end

---@param buf integer
---@return string
local function place_of(buf)
  return ('%d:%d:%d'):format(api.nvim_buf_get_changedtick(buf), cursor())
end

---@param buf integer
---@return boolean
local function is_typing(buf)
  return api.nvim_get_current_buf() == buf and api.nvim_get_mode().mode:sub(1, 1) == 'i'
end

---@param buf integer
local function cancel(buf)
  local state = states[buf]
  if state.request_id then
    state.client:cancel_request(state.request_id)
    state.request_id = nil
  end
end

---@param buf integer
local function clear(buf)
  api.nvim_buf_clear_namespace(buf, namespace, 0, -1)
  states[buf].suggestion = nil
end

--- What an item inserts and where; nil for one that does not touch the cursor.
---@param buf integer
---@param item lsp.InlineCompletionItem
---@param encoding string
---@return flash_lsp.Candidate?
local function candidate_of(buf, item, encoding)
  local row, col = cursor()
  local first, last = col, col
  if item.range then
    if item.range.start.line ~= row or item.range['end'].line ~= row then
      return nil
    end
    local line = api.nvim_buf_get_lines(buf, row, row + 1, true)[1]
    first = vim.str_byteindex(line, encoding, item.range.start.character, false)
    last = vim.str_byteindex(line, encoding, item.range['end'].character, false)
  end
  local inserted = item.insertText
  if first > col or last < col or type(inserted) ~= 'string' then
    return nil
  end
  return {
    item = item,
    text = text.with_line_feeds(inserted),
    row = row,
    col = first,
    n_replaced = last - col,
    is_shown = false,
  }
end

---@param state flash_lsp.GhostState
---@return flash_lsp.Candidate?
local function current(state)
  local suggestion = state.suggestion
  return suggestion and suggestion.candidates[suggestion.index]
end

--- What of the current candidate is not typed yet; nil once the text went another way.
---@param buf integer
---@return string?
local function rest_of(buf)
  local state = states[buf]
  local candidate = current(state)
  if not candidate then
    return nil
  end
  local row, col = cursor()
  local _, n_breaks = candidate.text:gsub('\n', '')
  local is_before = row < candidate.row or (row == candidate.row and col < candidate.col)
  if is_before or row > candidate.row + n_breaks then
    return nil
  end
  if api.nvim_get_current_line():sub(col + 1) ~= state.suggestion.tail then
    return nil
  end
  local lines = api.nvim_buf_get_text(buf, candidate.row, candidate.col, row, col, {})
  local typed = table.concat(lines, '\n')
  if not vim.startswith(candidate.text, typed) or #typed == #candidate.text then
    return nil
  end
  return candidate.text:sub(#typed + 1)
end

---@param buf integer
---@param rest string
local function draw(buf, rest)
  local state = states[buf]
  local suggestion, row, col = state.suggestion, cursor()
  local lines = vim.tbl_map(function(line)
    return { { line, 'FlashLspGhost' } }
  end, text.lines(rest))
  if suggestion.is_invoked then
    local hint = (' (%d/%d)'):format(suggestion.index, #suggestion.candidates)
    table.insert(lines[#lines], { hint, 'FlashLspHint' })
  end
  api.nvim_buf_set_extmark(buf, namespace, row, col, {
    id = 1, -- replaces what was drawn before without a flicker
    virt_text = lines[1],
    virt_text_pos = 'inline',
    virt_lines = lines[2] and vim.list_slice(lines, 2) or nil,
    hl_mode = 'combine',
  })
  local candidate = current(state) --[[@as flash_lsp.Candidate]]
  if not candidate.is_shown then
    candidate.is_shown = true
    state.client:notify('textDocument/didShowCompletion', { item = candidate.item })
  end
end

---@param buf integer
---@return boolean whether there is something to show
local function redraw(buf)
  local rest = rest_of(buf)
  if rest then
    draw(buf, rest)
  else
    clear(buf)
  end
  return rest ~= nil
end

---@param buf integer
---@param result? lsp.InlineCompletionList|lsp.InlineCompletionItem[]
---@param is_invoked boolean
---@param index integer which candidate to show first; may lie beyond their ends
local function take(buf, result, is_invoked, index)
  local state = states[buf]
  local candidates = {} ---@type flash_lsp.Candidate[]
  for _, item in ipairs(result and (result.items or result) or {}) do
    candidates[#candidates + 1] = candidate_of(buf, item, state.client.offset_encoding)
  end
  if #candidates == 0 then
    return
  end
  local _, col = cursor()
  state.suggestion = {
    candidates = candidates,
    index = (index - 1) % #candidates + 1,
    tail = api.nvim_get_current_line():sub(col + 1),
    is_invoked = is_invoked,
  }
  redraw(buf)
end

---@param buf integer
---@param kind integer
---@param index? integer
local function request(buf, kind, index)
  cancel(buf)
  local state = states[buf]
  local client, place = state.client, place_of(buf)
  local params = vim.lsp.util.make_position_params(0, client.offset_encoding) --[[@as table]]
  params.textDocument.version = vim.lsp.util.buf_versions[buf]
  params.context = { triggerKind = kind }
  local is_sent, id
  is_sent, id = client:request(METHOD, params, function(err, result)
    if not states[buf] or states[buf].request_id ~= id then
      return -- a newer request took its place
    end
    states[buf].request_id = nil
    if not err and is_typing(buf) and place_of(buf) == place and vim.fn.pumvisible() == 0 then
      take(buf, result, kind == INVOKED, index or 1)
    end
  end, buf)
  state.request_id = is_sent and id or nil
end

--- Look at the text and the cursor again: the user typed along, or something new is needed.
---@param buf integer
local function update(buf)
  local state = states[buf]
  if not state or not is_typing(buf) then
    return
  end
  if vim.fn.pumvisible() == 1 then
    -- The popup menu has the lines below the cursor to itself.
    cancel(buf)
    clear(buf)
    state.place = nil
    return
  end
  local place = place_of(buf)
  if state.place == place then
    return -- several events tell of one change
  end
  state.place = place
  if redraw(buf) then
    cancel(buf)
  else
    request(buf, AUTOMATIC)
  end
end

---@param buf integer
local function leave(buf)
  if states[buf] then
    cancel(buf)
    clear(buf)
    states[buf].place = nil
  end
end

---@param client vim.lsp.Client
---@param buf integer
function M.attach(client, buf)
  states[buf] = { client = client }
  api.nvim_set_hl(0, 'FlashLspGhost', { link = 'Comment', default = true })
  api.nvim_set_hl(0, 'FlashLspHint', { link = 'NonText', default = true })
  local group = api.nvim_create_augroup('flash_lsp.ghost.' .. buf, {})
  local function on(events, callback)
    api.nvim_create_autocmd(events, { group = group, buffer = buf, callback = callback })
  end
  on({ 'TextChangedI', 'TextChangedP', 'CursorMovedI' }, function()
    update(buf)
  end)
  -- Before these two, the cursor and the popup menu are not yet what they will be.
  on({ 'InsertEnter', 'CompleteDone' }, function()
    vim.schedule(function()
      update(buf)
    end)
  end)
  on({ 'InsertLeave', 'BufLeave' }, function()
    leave(buf)
  end)
  on('LspDetach', function(event)
    if event.data.client_id == client.id then
      api.nvim_buf_clear_namespace(buf, namespace, 0, -1)
      api.nvim_del_augroup_by_id(group)
      states[buf] = nil
    end
  end)
end

---@param buf integer
---@return boolean
function M.visible(buf)
  return states[buf] ~= nil and states[buf].suggestion ~= nil
end

--- Put text at the cursor, as an undo step of its own.
---@param buf integer
---@param inserted string
---@param n_replaced integer
local function insert(buf, inserted, n_replaced)
  local row, col = cursor()
  local lines = text.lines(inserted)
  vim.go.undolevels = vim.go.undolevels -- ends the undo step of what was typed before
  api.nvim_buf_set_text(buf, row, col, row, col + n_replaced, lines)
  local last_col = #lines[#lines] + (#lines == 1 and col or 0)
  api.nvim_win_set_cursor(0, { row + #lines, last_col })
  vim.go.undolevels = vim.go.undolevels
end

---@param buf integer
---@param piece flash_lsp.Piece
function M.accept(buf, piece)
  local state, rest = states[buf], rest_of(buf)
  local candidate = current(state)
  if not candidate or not rest then
    clear(buf)
    return
  end
  local client, accepted = state.client, text.first(rest, piece)
  cancel(buf)
  if #accepted < #rest then
    insert(buf, accepted, 0)
    redraw(buf)
    local so_far = candidate.text:sub(1, #candidate.text - #rest + #accepted)
    client:notify('textDocument/didPartiallyAcceptCompletion', {
      item = candidate.item,
      acceptedLength = text.utf16_length(so_far, candidate.item.insertText --[[@as string]]),
    })
    return
  end
  clear(buf)
  insert(buf, rest, candidate.n_replaced)
  if candidate.item.command then
    client:exec_cmd(candidate.item.command, { bufnr = buf }, function() end)
  end
end

---@param buf integer
---@param step integer
function M.cycle(buf, step)
  local suggestion = states[buf].suggestion --[[@as flash_lsp.Suggestion]]
  if not suggestion.is_invoked and #suggestion.candidates == 1 then
    -- What comes by itself may be the best one only; who asks gets all of them.
    request(buf, INVOKED, 1 + step)
    return
  end
  suggestion.is_invoked = true
  suggestion.index = (suggestion.index - 1 + step) % #suggestion.candidates + 1
  redraw(buf)
end

---@param buf integer
function M.dismiss(buf)
  cancel(buf)
  clear(buf)
end

---@param buf integer
function M.suggest(buf)
  if is_typing(buf) then
    states[buf].place = place_of(buf)
    request(buf, INVOKED)
  end
end

return M
