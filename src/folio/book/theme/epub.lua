-- Plain HTML of the book -> what an e-reader shows.
local function text_of(element) return pandoc.utils.stringify(element) end

local M = {}
function M.Span(s)
  if s.classes:includes('tex') then return pandoc.Math('InlineMath', text_of(s)) end
  if s.classes:includes('index') then return {} end
end
function M.CodeBlock(c)
  local kind = c.classes:includes('output') and 'output' or 'code'
  return pandoc.CodeBlock(c.text, {'', {kind}, {}})
end
function M.Link(l)
  if l.classes:includes('on-site') then return l.content end
end
function M.Div(d)
  local c = d.classes
  if c:includes('formula') then
    local formula = pandoc.Para{pandoc.Math('DisplayMath', text_of(d))}
    return pandoc.Div({formula}, {d.identifier})
  elseif c:includes('part') then
    return {}
  elseif c:includes('solution') then
    d.content:insert(1, pandoc.Para{pandoc.Strong{pandoc.Str('Solution')}})
  elseif c:includes('answers') then
    return pandoc.Para{pandoc.Str('They stand where they are asked for.')}
  end
end
return {M}
