-- Plain HTML of a chapter -> plain Markdown: no attributes, no directives.
local function text_of(element) return pandoc.utils.stringify(element) end

local M = {}
function M.Span(s)
  if s.classes:includes('tex') then return pandoc.Math('InlineMath', text_of(s)) end
  return s.content
end
function M.CodeBlock(c)
  local language = c.classes[1] or 'text'
  return pandoc.CodeBlock(c.text, {'', {language}, {}})
end
function M.Link(l)
  if l.target:match('^https?:') then return pandoc.Link(l.content, l.target) end
  if l.classes:includes('on-site') or l.target:match('^#') then return l.content end
  return pandoc.Link(l.content, (l.target:gsub('#.*$', '')))
end
function M.Image(i) return pandoc.Image(i.caption, i.src) end
function M.Header(h) return pandoc.Header(h.level, h.content) end
function M.Figure(f)
  local image
  f:walk{Image = function(i) image = pandoc.Image(i.caption, i.src) end}
  local caption = pandoc.utils.blocks_to_inlines(f.caption.long)
  return {pandoc.Para{image}, pandoc.Para{pandoc.Emph(caption)}}
end
local function folded(name, blocks)
  local html = function(text) return pandoc.RawBlock('html', text) end
  local all = pandoc.List{html('<details><summary>' .. name .. '</summary>')}
  all:extend(blocks)
  all:insert(html('</details>'))
  return all
end
function M.Div(d)
  local c = d.classes
  if c:includes('formula') then
    local number = d.attributes.number
    local tag = number ~= '' and ' \\tag{' .. number .. '}' or ''
    return pandoc.Para{pandoc.Math('DisplayMath', text_of(d) .. tag)}
  elseif c:includes('solution') then
    return folded('Solution', d.content)
  elseif c:includes('why') then
    return folded('Answer', d.content)
  elseif c:includes('answers') then
    return {}
  elseif c:includes('admonition') then
    local head = d.content:remove(1)
    d.content:insert(1, pandoc.Para{pandoc.Strong{pandoc.Str(text_of(head))}})
    return pandoc.BlockQuote(d.content)
  end
  return d.content
end
return {M}
