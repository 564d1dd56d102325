-- What vim.lsp.enable('flash_lsp') starts; vim.lsp.config('flash_lsp', {...}) changes it.
return require('flash_lsp.client').config()
