--- Edits by an instruction: the server rewrites lines, a preview shows the answer as it comes and
--- then the difference, and the user applies it, as one undo step, or drops it.

local Window = require('flash_lsp.window')
local client = require('flash_lsp.client')
local text = require('flash_lsp.text')

local api = vim.api
local M = {}

local COMMAND = 'flash.edit'
local REQUEST_CANCELLED = -32800
local CONTEXT_LINES = 3

---@class flash_lsp.Edit
---@field id string
---@field buf integer
---@field client vim.lsp.Client
---@field instruction string
---@field window flash_lsp.Window
---@field request_id? integer while the server is at it
---@field said string what came of the answer so far
---@field answer? lsp.WorkspaceEdit
---@field tick? integer of the buffer when the answer came

---@class flash_lsp.EditEvent
---@field id string
---@field uri string
---@field kind 'delta'|'done'|'failed'
---@field text? string
---@field reason? string

local running = {} ---@type table<string, flash_lsp.Edit>
local n_edits = 0

--- Take the server's word on how an edit goes.
---@param event flash_lsp.EditEvent
function M.progress(event)
  local edit = running[event.id]
  if edit and event.kind == 'delta' then
    edit.said = edit.said .. text.with_line_feeds(event.text or '')
    edit.window:set(text.lines(edit.said), vim.bo[edit.buf].syntax)
  end
end

---@param answer lsp.WorkspaceEdit
---@return lsp.TextEdit[]
local function text_edits_of(answer)
  local edits = {} ---@type lsp.TextEdit[]
  for _, change in ipairs(answer.documentChanges or {}) do
    vim.list_extend(edits, change.edits or {})
  end
  for _, changes in pairs(answer.changes or {}) do
    vim.list_extend(edits, changes)
  end
  return edits
end

--- What the answer would make of the buffer, as a unified diff.
---@param edit flash_lsp.Edit
---@param answer lsp.WorkspaceEdit
---@return string[]
local function difference(edit, answer)
  local old = api.nvim_buf_get_lines(edit.buf, 0, -1, false)
  local copy = api.nvim_create_buf(false, true)
  api.nvim_buf_set_lines(copy, 0, -1, false, old)
  local edits = vim.tbl_map(function(change)
    return { range = vim.deepcopy(change.range), newText = change.newText }
  end, text_edits_of(answer))
  vim.lsp.util.apply_text_edits(edits, copy, edit.client.offset_encoding)
  local new = api.nvim_buf_get_lines(copy, 0, -1, false)
  api.nvim_buf_delete(copy, { force = true })
  local diff = vim.text.diff or vim.diff
  local before, after = table.concat(old, '\n') .. '\n', table.concat(new, '\n') .. '\n'
  local hunks = diff(before, after, { ctxlen = CONTEXT_LINES }) --[[@as string]]
  return text.lines((hunks:gsub('\n$', '')))
end

--- The server is not at it any more, whatever came of it.
---@param edit flash_lsp.Edit
local function finish(edit)
  running[edit.id] = nil
  edit.request_id = nil
end

---@param edit flash_lsp.Edit
local function apply(edit)
  edit.window:close()
  if not api.nvim_buf_is_valid(edit.buf) then
    return
  end
  if api.nvim_buf_get_changedtick(edit.buf) ~= edit.tick then
    client.complain('nothing was changed: the text is another one by now; try again')
    return
  end
  vim.lsp.util.apply_workspace_edit(edit.answer, edit.client.offset_encoding)
end

---@param edit flash_lsp.Edit
---@param answer? lsp.WorkspaceEdit
local function offer(edit, answer)
  if not answer or #text_edits_of(answer) == 0 then
    edit.window:close()
    client.say('the model would change nothing')
    return
  end
  edit.answer, edit.tick = answer, api.nvim_buf_get_changedtick(edit.buf)
  local title = ('%s: <CR> applies, q drops'):format(edit.instruction)
  edit.window:set(difference(edit, answer), 'diff', title)
  edit.window:on_key('<CR>', 'Apply the edit', function()
    apply(edit)
  end)
end

---@param edit flash_lsp.Edit
---@param first integer
---@param last integer
local function send(edit, first, last)
  local range = {
    start = { line = first - 1, character = 0 },
    ['end'] = { line = last, character = 0 },
  }
  local argument = {
    uri = vim.uri_from_bufnr(edit.buf),
    range = range,
    instruction = edit.instruction,
    version = vim.lsp.util.buf_versions[edit.buf],
    id = edit.id,
  }
  local params = { command = COMMAND, arguments = { argument } }
  running[edit.id] = edit
  local _
  _, edit.request_id = edit.client:request('workspace/executeCommand', params, function(err, answer)
    finish(edit)
    if not err and edit.window:is_open() then
      offer(edit, answer)
    elseif err and err.code ~= REQUEST_CANCELLED then
      edit.window:close()
      client.complain('nothing was changed: ' .. err.message)
    end
  end, edit.buf)
end

---@param buf integer
---@param first integer
---@param last integer
---@param instruction string
local function begin(buf, first, last, instruction)
  local found = client.find(buf)
  if not found then
    client.complain('the server does not serve this buffer; :checkhealth flash_lsp says why')
    return
  elseif not client.can_execute(found, COMMAND) then
    client.complain('this server is too old for edits: it has no command ' .. COMMAND)
    return
  end
  n_edits = n_edits + 1
  local edit = { ---@type flash_lsp.Edit
    id = ('nvim-%d-%d'):format(vim.fn.getpid(), n_edits),
    buf = buf,
    client = found,
    instruction = instruction,
    said = '',
    window = nil, ---@diagnostic disable-line: assign-type-mismatch
  }
  edit.window = Window.open({
    title = instruction .. ': q cancels',
    lines = { 'waiting for the model …' },
    on_close = function()
      if edit.request_id then
        edit.client:cancel_request(edit.request_id)
        finish(edit)
      end
    end,
  })
  send(edit, first, last)
end

--- Rewrite the lines `first` to `last` of the current buffer, counted from 1.
---@param first integer
---@param last integer
---@param instruction? string asked for if there is none
function M.run(first, last, instruction)
  local buf = api.nvim_get_current_buf()
  if instruction and instruction ~= '' then
    begin(buf, first, last, instruction)
    return
  end
  vim.ui.input({ prompt = 'What to do with these lines: ' }, function(given)
    if given and given ~= '' then
      begin(buf, first, last, given)
    end
  end)
end

return M
