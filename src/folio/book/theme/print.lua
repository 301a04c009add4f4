-- Plain HTML of the book -> Typst, with the functions of print.typ.
local answers, ids, notes = {}, {}, {}
local SHORT_CODE, SHORT_BOX = 26, 1100  -- lines, characters: never torn between pages

local function raw(text) return pandoc.RawBlock('typst', text) end
local function rawi(text) return pandoc.RawInline('typst', text) end
local function text_of(element) return pandoc.utils.stringify(element) end
local function quoted(text)
  return '"' .. text:gsub('\\', '\\\\'):gsub('"', '\\"') .. '"'
end
local function wrap(open, blocks, close)
  local all = pandoc.List{raw(open)}
  all:extend(blocks)
  all:insert(raw(close or ']'))
  return all
end
local function tex(text)  -- pandoc's reader would misunderstand these
  text = text:gsub('\\!', '')
  return (text:gsub('(\\begin{cases})(.-)(\\end{cases})', function(a, b, c)
    return a .. b:gsub('&', '&\\quad ') .. c
  end))
end
local function fence(code, language)
  local mark = '```'
  while code:find(mark, 1, true) do mark = mark .. '`' end
  return mark .. language .. '\n' .. code .. '\n' .. mark
end
local function length(blocks)
  local code = 0
  pandoc.walk_block(pandoc.Div(blocks), {CodeBlock = function(c)
    code = code + 60 * select(2, c.text:gsub('\n', '\n'))
  end})
  return #text_of(blocks) + code
end

-- first walk: which ids exist, which heading a section's id belongs to

local function without_code(blocks)  -- what only draws a picture isn't worth paper
  return blocks:filter(function(block)
    return block.t ~= 'CodeBlock' or block.classes:includes('output')
      or block.classes:includes('error')
  end)
end
local function collect(div)
  local classes = div.classes
  if classes:includes('folded') then return without_code(div.content) end
  local first = div.content[1]
  while first and first.t ~= 'Header' and text_of(first) == '' do
    div.content:remove(1)
    first = div.content[1]
  end
  if first and first.t == 'Header' then
    if div.identifier ~= '' then
      first.identifier = div.identifier
      ids[div.identifier] = true
    end
    return div.content
  end
  if classes:includes('footnote') then
    notes[div.identifier] = div.content
    return {}
  end
  if div.identifier ~= '' and (classes:includes('formula')
      and div.attributes.number ~= '' or classes:includes('admonition')
      or classes:includes('work')) then
    ids[div.identifier] = true
  end
end
local function collect_span(span)
  if span.identifier ~= '' and #span.content == 0 then ids[span.identifier] = true end
end
local function collect_figure(figure)
  if figure.identifier ~= '' then ids[figure.identifier] = true end
end

-- second walk: elements

local M = {}
function M.Span(s)
  local c = s.classes
  if c:includes('tex') then return pandoc.Math('InlineMath', tex(text_of(s))) end
  if c:includes('index') then
    return rawi('#index-mark(' .. quoted(s.attributes.term) .. ')')
  end
  if c:includes('section-number') then
    return {rawi('#section-number['), pandoc.Str(text_of(s):gsub('[ .]+$', '')),
      rawi(']#h(0.5em)')}
  end
  if #s.content == 0 then
    if s.identifier == '' then return {} end
    return rawi('#metadata(none) <' .. s.identifier .. '>')
  end
  return s.content
end
function M.CodeBlock(c)
  local kind = c.classes:includes('error') and 'error'
    or c.classes:includes('output') and 'output' or 'code'
  local start = c.attributes.first or ''
  local marks = c.attributes.marks or ''
  local _, lines = c.text:gsub('\n', '\n')
  return raw('#code(start: ' .. (start == '' and 'none' or start) .. ', marks: ('
    .. (marks == '' and '' or marks .. ',') .. '), kind: "' .. kind .. '", whole: '
    .. tostring(lines < SHORT_CODE) .. ')[' .. fence(c.text, c.classes[1] or 'text')
    .. ']')
end
function M.Link(l)
  local fragment = l.target:match('^#(.*)$')
  if l.classes:includes('fnref') then
    return notes[fragment] and pandoc.Note(notes[fragment]) or {}
  end
  if l.classes:includes('on-site') then return l.content end
  if fragment and not ids[fragment] then return l.content end
  l.attributes = {}
  return l
end
function M.Header(h)
  h.attributes = {}
  return h
end
function M.Figure(f)
  if not f.classes:includes('left-page') then return nil end
  return {raw('#pagebreak(weak: true, to: "even")'), f}
end
function M.HorizontalRule() return {} end
function M.Div(d)
  local c = d.classes
  if c:includes('formula') then
    local formula = pandoc.Math('DisplayMath', tex(text_of(d)))
    if d.attributes.number == '' then return pandoc.Para{formula} end
    return pandoc.Plain{rawi('#numbered("(' .. d.attributes.number .. ')")['), formula,
      rawi('] <' .. d.identifier .. '>')}
  elseif c:includes('solution') then
    answers[#answers + 1] = {d.attributes.exercise, d.attributes.solves, d.content}
    return {}
  elseif c:includes('why') then
    answers[#answers + 1] = {'Question ' .. d.attributes.number, '', d.content}
    return {}
  elseif c:includes('answers') then
    return d
  elseif c:includes('part') then
    return raw('#part(' .. quoted(text_of(d)) .. ')')
  elseif c:includes('question') then
    return wrap('#question[', d.content)
  elseif c:includes('quote') then
    local caption = d.content:remove(1)
    local lines = 0
    for _, block in ipairs(d.content) do
      lines = lines + select(2, (block.text or ''):gsub('\n', '\n'))
    end
    local all = wrap('#listing-caption[', {caption})
    all:extend(d.content)
    return wrap('#quote-box(' .. tostring(lines < SHORT_CODE + 6) .. ')[', all)
  elseif c:includes('work') then
    local all = pandoc.List(d.content)
    all:insert(1, raw('#metadata(none) <' .. d.identifier .. '>'))
    return all
  elseif c:includes('admonition') then
    local kind = 'note'
    for _, one in ipairs{'tip', 'warning', 'caution', 'exercise'} do
      if c:includes(one) then kind = one end
    end
    local title = text_of(d.content:remove(1))
    local whole = tostring(length(d.content) < SHORT_BOX)
    local open = '#callout(' .. quoted(kind) .. ', ' .. quoted(title) .. ', ' .. whole
    local label = d.identifier ~= '' and '] <' .. d.identifier .. '>' or ']'
    return wrap(open .. ')[', d.content, label)
  end
  return d.content
end

-- third walk: the collected answers go where they are wanted

local function place(div)
  if not div.classes:includes('answers') then return nil end
  local all = pandoc.List{}
  for _, answer in ipairs(answers) do
    local title, target, blocks = answer[1], answer[2], answer[3]
    if target ~= '' then
      all:insert(pandoc.Para{pandoc.Strong{
        rawi('#answer-head(<' .. target .. '>, ' .. quoted(title) .. ')')}})
    else
      local first = blocks[1]
      first.content:insert(1, pandoc.Space())
      first.content:insert(1, pandoc.Strong{pandoc.Str(title .. ':')})
    end
    all:extend(blocks)
  end
  return all
end

return {
  {Div = collect, Span = collect_span, Figure = collect_figure},
  M,
  {Div = place},
}
