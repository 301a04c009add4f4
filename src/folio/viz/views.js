"use strict";
// What makes the views live: read-outs of charts, attention through time, hints, theme.
// Text reaches the page by textContent only, never as markup.
const root = document.documentElement;
root.classList.add("live");
const all = (selector, from = document) => [...from.querySelectorAll(selector)];
const color = name => getComputedStyle(root).getPropertyValue("--" + name).trim();
const redraws = []; // {part, draw}: called when the theme changes, while part is there

// Theme: as the system says until the reader decides.
const dark = () => root.dataset.theme
  ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
const redraw = () => {
  redraws.splice(0, redraws.length, ...redraws.filter(({ part }) => part.isConnected));
  redraws.forEach(({ draw }) => draw());
};
try { root.dataset.theme = localStorage.getItem("folio-theme") || ""; } catch {}
const switchTheme = () => {
  root.dataset.theme = dark() ? "light" : "dark";
  try { localStorage.setItem("folio-theme", root.dataset.theme); } catch {}
  redraw();
};
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);

// Charts: the point of each line nearest to the pointer.
const short = value => value === null ? "not finite"
  : Number(value.toPrecision(4)).toLocaleString("en");
const readOut = view => {
  const { clock, lines } = JSON.parse(view.querySelector("script").textContent);
  const readout = view.querySelector(".readout");
  const charts = all(".chart-svg", view).map(svg => {
    const [low, high, start, end] = svg.dataset.x.split(" ").map(Number);
    const [bottom, top, down, up] = svg.dataset.y.split(" ").map(Number);
    const [xLog, yLog] = svg.dataset.log.split(" ").map(Number);
    const scale = (v, a, b, from, to, log) => log
      ? from + (to - from) * Math.log(v / a) / Math.log(b / a)
      : from + (to - from) * (v - a) / (b - a);
    return {
      svg, cursor: svg.querySelector(".cursor"),
      x: v => scale(v, low, high, start, end, xLog),
      y: v => scale(v, bottom, top, down, up, yLog),
      value: place => {
        const share = Math.min(1, Math.max(0, (place - start) / (end - start)));
        return xLog ? low * (high / low) ** share : low + (high - low) * share;
      },
    };
  });
  const nearest = (xs, value) => {
    let left = 0, right = xs.length - 1;
    while (right - left > 1) {
      const middle = (left + right) >> 1;
      if (xs[middle] < value) left = middle; else right = middle;
    }
    return value - xs[left] < xs[right] - value ? left : right;
  };
  const show = value => {
    const at = lines.map(line => nearest(line.x, value));
    // The line nearest to the pointer decides; another is silent far from its points.
    const places = lines.map((line, i) => line.x[at[i]]);
    const anchor = places.reduce((a, b) =>
      Math.abs(b - value) < Math.abs(a - value) ? b : a, places[0]);
    readout.replaceChildren(`${clock.split(",")[0]} ${short(anchor)}`);
    lines.forEach((line, i) => {
      const name = document.createElement("b");
      name.style.color = `var(--${line.color})`;
      name.textContent = `${line.name} ${short(line.y[at[i]])}`;
      const away = places[i] === anchor ? "" : ` (at ${short(places[i])})`;
      readout.append(" · ", name, away);
    });
    for (const { cursor, x, y } of charts) {
      cursor.setAttribute("visibility", "visible");
      const rule = cursor.querySelector("line");
      rule.setAttribute("x1", x(anchor));
      rule.setAttribute("x2", x(anchor));
      all("circle", cursor).forEach((dot, i) => {
        const down = lines[i] ? y(lines[i].y[at[i]]) : NaN;
        dot.setAttribute("visibility",
          lines[i] && lines[i].y[at[i]] !== null && isFinite(down) ? "inherit" : "hidden");
        if (!isFinite(down)) return;
        dot.setAttribute("cx", x(places[i]));
        dot.setAttribute("cy", down);
      });
    }
  };
  const hide = () => {
    charts.forEach(chart => chart.cursor.setAttribute("visibility", "hidden"));
    readout.textContent = "\u00a0";
  };
  return { link: view.dataset.link, charts, show, hide };
};
const chartsIn = from => {
  const views = all(".view", from).map(readOut);
  for (const view of views) {
    const linked = view.link ? views.filter(other => other.link === view.link) : [view];
    for (const { svg, value } of view.charts) {
      const move = event => {
        const box = svg.getBoundingClientRect();
        const scaled = (event.clientX - box.left) / box.width * svg.viewBox.baseVal.width;
        linked.forEach(other => other.show(value(scaled)));
      };
      svg.onpointermove = svg.onpointerdown = move;
      svg.onpointerleave = () => linked.forEach(other => other.hide());
    }
  }
};

// Attention: one slider, every head, one of them large, one token that looks.
const attention = part => {
  const data = JSON.parse(part.querySelector("script").textContent);
  const { tokens, steps, layers, heads, causal } = data;
  const size = tokens.length, heatCell = size * size;
  const weights = data.weights.map(text =>
    Uint8Array.from(atob(text), character => character.charCodeAt(0)));
  const slider = part.querySelector("input"), play = part.querySelector(".play");
  const canvas = part.querySelector(".attention-focus canvas");
  const buttons = all(".head-buttons button", part);
  const words = all(".sentence span", part);
  const readout = part.querySelector(".readout");
  let head = buttons.length - heads, row = size - 1, column = null, colors;

  const readColors = () => {
    const anchors = Array.from({ length: 16 }, (_, i) => color(`attention-${i}`))
      .map(hex => [1, 3, 5].map(at => parseInt(hex.slice(at, at + 2), 16)));
    colors = Array.from({ length: 256 }, (_, value) => {
      const place = Math.sqrt(value / 255) * 15, left = Math.min(14, Math.floor(place));
      return anchors[left].map((from, c) =>
        Math.round(from + (anchors[left + 1][c] - from) * (place - left)));
    });
  };
  const weight = (query, key, which = head) =>
    weights[slider.value][which * heatCell + query * size + key];

  const drawSmall = () => buttons.forEach((button, which) => {
    const small = button.firstChild, pen = small.getContext("2d");
    small.width = small.height = size;
    const image = pen.createImageData(size, size);
    for (let i = 0; i < heatCell; i++) {
      const query = Math.floor(i / size), hidden = causal && i % size > query;
      image.data.set([...colors[weight(query, i % size, which)], hidden ? 0 : 255], 4 * i);
    }
    pen.putImageData(image, 0, 0);
    button.setAttribute("aria-pressed", which === head);
  });

  let edge = 0, cell = 1;
  const drawLarge = () => {
    const width = canvas.clientWidth || 480, ratio = devicePixelRatio || 1;
    const pen = canvas.getContext("2d");
    const font = Math.min(12.5, width * .85 / size);
    pen.font = `${font}px monospace`;
    const longest = Math.max(...tokens.map(token => pen.measureText(token).width));
    edge = Math.min(longest + 10, width * .22);
    cell = (width - edge) / size;
    canvas.width = canvas.height = Math.round(width * ratio);
    canvas.style.height = width + "px";
    pen.scale(ratio, ratio);
    for (let query = 0; query < size; query++)
      for (let key = 0; key < (causal ? query + 1 : size); key++) {
        pen.fillStyle = `rgb(${colors[weight(query, key)]})`;
        pen.fillRect(edge + key * cell, edge + query * cell, cell + .4, cell + .4);
      }
    const write = (text, index, chosen, upright) => {
      if (font < 6 && !chosen) return;
      pen.save();
      const middle = edge + (index + .5) * cell;
      if (upright) { pen.translate(middle, edge - 5); pen.rotate(-Math.PI / 2); }
      else pen.translate(edge - 5, middle);
      pen.fillStyle = color(chosen ? "ink" : "quiet");
      pen.font = `${chosen ? "bold " : ""}${Math.max(font, chosen ? 9 : 0)}px monospace`;
      pen.textAlign = upright ? "left" : "right";
      pen.textBaseline = "middle";
      pen.fillText(text, 0, 0, edge - 6);
      pen.restore();
    };
    tokens.forEach((token, i) => {
      write(token, i, i === row, false);
      write(token, i, i === column, true);
    });
    pen.strokeStyle = color("ink");
    pen.lineWidth = 1.5;
    pen.strokeRect(edge, edge + row * cell, (causal ? row + 1 : size) * cell, cell);
    if (column !== null) pen.strokeRect(edge + column * cell, edge + row * cell, cell, cell);
  };

  const drawWords = () => words.forEach((word, key) => {
    const value = weight(row, key), late = causal && key > row;
    word.classList.toggle("chosen", key === row);
    word.style.background = late ? "" : `rgb(${colors[value]})`;
    const lightness = colors[value].reduce((a, b) => a + b) / 3;
    word.style.color = late ? color("quiet") : lightness > 140 ? "#15171b" : "#fdfcf9";
  });

  const tell = () => {
    const step = steps[slider.value].toLocaleString("en");
    part.querySelector("output").textContent = `step ${step}`;
    slider.setAttribute("aria-valuetext", `step ${step}`);
    let best = column;
    if (best === null) for (let key = best = 0; key < size; key++)
      if (weight(row, key) > weight(row, best)) best = key;
    const share = (weight(row, best) / 255).toFixed(2);
    const where = `layer ${Math.floor(head / heads) + 1}, head ${head % heads + 1}`;
    const most = column === null ? ", strongest" : "";
    readout.textContent = `${where}${most} · ${tokens[row]} → ${tokens[best]}: ${share}`;
  };
  const draw = () => { drawLarge(); drawWords(); tell(); };
  const drawAll = () => { readColors(); drawSmall(); draw(); };

  buttons.forEach((button, which) => button.onclick = () => { head = which; drawAll(); });
  words.forEach((word, query) => {
    word.onpointerenter = word.onfocus = () => { row = query; column = null; draw(); };
  });
  canvas.onpointermove = canvas.onpointerdown = event => {
    const box = canvas.getBoundingClientRect();
    const place = at => Math.floor((at - edge) / cell);
    const key = place(event.clientX - box.left), query = place(event.clientY - box.top);
    if (query < 0 || query >= size || key < 0 || key >= (causal ? query + 1 : size)) return;
    row = query; column = key;
    draw();
  };
  canvas.onpointerleave = () => { column = null; draw(); };
  slider.oninput = drawAll;

  let timer = null;
  const stop = () => { clearInterval(timer); timer = null; play.textContent = "▶ play"; };
  play.onclick = () => {
    if (timer) return stop();
    if (+slider.value === steps.length - 1) slider.value = 0;
    play.textContent = "❚❚ pause";
    drawAll();
    timer = setInterval(() => {
      if (+slider.value === steps.length - 1) return stop();
      slider.value = +slider.value + 1;
      drawAll();
    }, Math.max(120, Math.min(700, 5000 / steps.length)));
  };
  redraws.push({ part, draw: drawAll });
  new ResizeObserver(drawLarge).observe(canvas.parentElement);
  drawAll();
};

const bringToLife = from => {
  chartsIn(from);
  all(".attention", from).forEach(attention);
};

// Hints on tokens and cells.
const tip = document.createElement("div");
tip.id = "tip";
tip.role = "status";
tip.hidden = true;
const hint = event => {
  const element = event.target.closest?.("[data-tip]");
  tip.hidden = !element;
  if (!element) return;
  document.body.append(tip);
  tip.textContent = element.dataset.tip;
  const box = element.getBoundingClientRect(), above = box.top - tip.offsetHeight - 6;
  tip.style.left = Math.max(8, Math.min(box.left, innerWidth - tip.offsetWidth - 8)) + "px";
  tip.style.top = (above < 4 ? box.bottom + 6 : above) + "px";
};
document.addEventListener("pointerover", hint);
document.addEventListener("focusin", hint);
document.addEventListener("focusout", () => { tip.hidden = true; });
