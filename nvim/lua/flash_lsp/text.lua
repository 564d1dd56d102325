--- Pieces and lengths of text. Knows neither buffers nor servers.

local M = {}

-- Blanks, then a run of word characters or a run of others; what a word is depends on 'iskeyword'.
local WORD = [[^\_s*\%(\k\+\|\%(\k\@!\S\)\+\)]]

---@alias flash_lsp.Piece 'all'|'word'|'line'

--- The beginning of a suggestion that is accepted at once.
---@param text string
---@param piece flash_lsp.Piece
---@return string
function M.first(text, piece)
  local first = text
  if piece == 'word' then
    first = vim.fn.matchstr(text, WORD)
  elseif piece == 'line' then
    first = text:match('^\n*[^\n]*')
  end
  return first ~= '' and first or text
end

--- How many UTF-16 units of an item's text a beginning of it is, which has line feeds only.
---@param first string
---@param whole string as the server sent it
---@return integer
function M.utf16_length(first, whole)
  if whole:find('\r\n', 1, true) then
    first = first:gsub('\n', '\r\n')
  end
  return vim.str_utfindex(first, 'utf-16')
end

--- A text with line feeds only, which is how buffers hold lines.
---@param text string
---@return string
function M.with_line_feeds(text)
  return (text:gsub('\r\n?', '\n'))
end

---@param text string
---@return string[]
function M.lines(text)
  return vim.split(text, '\n', { plain = true })
end

return M
