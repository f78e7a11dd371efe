"use strict";
const $ = id => document.getElementById(id);
const make = (tag, text = "", attributes = {}) => {
  const element = document.createElement(tag);
  element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
};
const data = JSON.parse($("data").textContent);
const unpack = (text, type) => new type(Uint8Array.from(atob(text), letter => letter.charCodeAt(0)).buffer);
const count = data.count, near = data.near;
const points = unpack(data.points, Int16Array), neighbours = unpack(data.neighbours, Uint32Array);
const cosines = unpack(data.cosines, Int16Array), tiles = unpack(data.tiles, Int32Array), sizes = unpack(data.sizes, Uint8Array);
const X = i => points[2 * i] / 32767, Y = i => points[2 * i + 1] / 32767;
const sheets = data.sheets.map(address => { const image = new Image(); image.onload = () => paint(); image.src = address; return image; });

/* Colours that the colour-blind tell apart (Okabe and Ito 2008), in three shapes. */
const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#f0e442"], SHAPES = 3, OTHER = "#8a919c";
const SCALE = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]], STEPS = 48;
const night = matchMedia("(prefers-color-scheme: dark)");
const MOST = COLOURS.length * SHAPES - 1; // values with a colour of their own; the rest share one

const canvas = $("canvas"), context = canvas.getContext("2d");
let width = 0, height = 0, view = {x: 0, y: 0, k: 1}, whole = 1, selected = -1, hovered = -1, column = null;
let chosen = new Set(), words = "", shown = new Uint8Array(count).fill(1), matches = [], stamps = new Map(), group = new Int16Array(count), groups = [], asked = false;
let version = 0; // of what is shown, and how
const layer = {canvas: document.createElement("canvas"), key: "", inside: []};

/* Values */
const label = i => data.labels.values[data.labels.codes[i]] ?? `item ${i + 1}`;
const cell = (part, i) => part.values ? part.values[part.codes[i]] ?? "" : part.codes[i] === null ? "" : String(part.codes[i]);
const short = value => Number(value.toPrecision(4)).toString();

function mix(share) {
  const place = Math.min(.9999, Math.max(0, share)) * (SCALE.length - 1), low = Math.floor(place);
  const parts = SCALE[low].map((value, n) => Math.round(value + (SCALE[low + 1][n] - value) * (place - low)));
  return `rgb(${parts})`;
}

function colourBy(part) {
  column = part;
  chosen = new Set();
  group = new Int16Array(count);
  if (!part) {
    groups = [{name: "all items", colour: COLOURS[0], shape: 0}];
  } else if (part.values) {
    groups = part.values.slice(0, part.values.length > MOST + 1 ? MOST : MOST + 1)
      .map((name, n) => ({name, colour: COLOURS[n % COLOURS.length], shape: Math.floor(n / COLOURS.length)}));
    const named = groups.length, others = part.values.length - named;
    if (others) groups.push({name: `${others.toLocaleString("en")} other values`, colour: OTHER, shape: 0});
    const missing = part.codes.includes(-1) ? groups.push({name: "(empty)", colour: OTHER, shape: 1}) - 1 : 0;
    part.codes.forEach((code, i) => { group[i] = code < 0 ? missing : Math.min(code, named); });
  } else {
    const known = part.codes.filter(value => value !== null).sort((a, b) => a - b);
    part.low = known[Math.floor(.01 * (known.length - 1))];
    part.high = known[Math.ceil(.99 * (known.length - 1))];
    groups = Array.from({length: STEPS}, (_, n) => ({name: "", colour: mix(n / (STEPS - 1)), shape: 0}));
    groups.push({name: "(empty)", colour: OTHER, shape: 1});
    part.codes.forEach((value, i) => {
      const share = (value - part.low) / (part.high - part.low || 1);
      group[i] = value === null ? STEPS : Math.round(Math.min(1, Math.max(0, share)) * (STEPS - 1));
    });
  }
  stamps.clear();
  legend();
  filter();
}

function legend() {
  const place = $("legend"), sums = new Int32Array(groups.length);
  for (let i = 0; i < count; i++) sums[group[i]]++;
  if (column && !column.values) {
    const bar = make("canvas", "", {class: "scale", width: 240, height: 1}), ink = bar.getContext("2d");
    for (let x = 0; x < 240; x++) { ink.fillStyle = mix(x / 239); ink.fillRect(x, 0, 1, 1); }
    const ends = make("div", "", {class: "ends"});
    ends.append(make("span", `≤ ${short(column.low)}`), make("span", `≥ ${short(column.high)}`));
    place.replaceChildren(bar, ends);
    if (sums[STEPS]) place.append(make("span", `grey: empty, ${sums[STEPS].toLocaleString("en")}`, {class: "soft"}));
    return;
  }
  place.replaceChildren(...groups.map((part, n) => {
    const button = make("button", "", {type: "button", "aria-pressed": chosen.has(n)});
    const swatch = make("canvas", "", {width: 32, height: 32, "aria-hidden": "true"}), ink = swatch.getContext("2d");
    ink.drawImage(stamp(n, 11), 16 - stamp(n, 11).width / 2, 16 - stamp(n, 11).height / 2);
    button.append(swatch, make("span", part.name), make("span", sums[n].toLocaleString("en"), {class: "soft"}));
    button.onclick = () => {
      chosen.has(n) ? chosen.delete(n) : chosen.add(n);
      button.setAttribute("aria-pressed", chosen.has(n));
      filter();
    };
    return button;
  }));
}

/* Which items are shown */
const plain = text => ` ${text.toLowerCase().replace(/[^\p{L}\p{M}\p{N}]+/gu, " ").trim()}`; // a space before each word

function having(word) {
  const fits = new Uint8Array(count);
  for (const part of [data.labels, ...data.columns.filter(each => each.values)]) {
    part.plain ??= part.values.map(plain);
    const right = part.plain.map(value => value.includes(word));
    for (let i = 0; i < count; i++) if (part.codes[i] >= 0 && right[part.codes[i]]) fits[i] = 1;
  }
  return fits;
}

function filter() {
  const parts = words.split(/\s+/).map(plain).filter(word => word.trim());
  shown.fill(1);
  for (const word of parts) {
    let fits = having(word);
    if (!fits.includes(1)) fits = having(word.trim()); // within words, if none begins so
    for (let i = 0; i < count; i++) shown[i] &= fits[i];
  }
  matches = [];
  for (let i = 0; i < count; i++) {
    if (chosen.size && !chosen.has(group[i])) shown[i] = 0;
    if (shown[i]) matches.push(i);
  }
  version++;
  const total = count.toLocaleString("en"), some = parts.length || chosen.size;
  $("state").textContent = some ? `${matches.length.toLocaleString("en")} of ${total} points` : `${total} points`;
  const place = $("hits");
  place.hidden = !parts.length;
  if (parts.length) {
    const head = make("h3", matches.length ? `Found${matches.length > 40 ? ", the first 40" : ""}` : "No item has these words");
    head.style.marginTop = 0;
    place.replaceChildren(head, list(matches.slice(0, 40), i => column ? cell(column, i) : ""));
  }
  paint();
}

/* Drawing */
function resize() {
  const ratio = devicePixelRatio || 1, box = canvas.getBoundingClientRect();
  const fresh = !width;
  [width, height] = [box.width, box.height];
  [canvas.width, canvas.height] = [Math.round(width * ratio), Math.round(height * ratio)];
  stamps.clear();
  if (fresh || view.k === whole) fit(); else paint();
}

function fit() {
  let [left, right, low, high] = [1, -1, 1, -1];
  for (let i = 0; i < count; i++) {
    left = Math.min(left, X(i)); right = Math.max(right, X(i)); low = Math.min(low, Y(i)); high = Math.max(high, Y(i));
  }
  const pad = 28, k = Math.min((width - 2 * pad) / Math.max(right - left, .01), (height - 2 * pad) / Math.max(high - low, .01));
  view = {x: (left + right) / 2, y: (low + high) / 2, k};
  whole = k;
  paint();
}

const place = i => [(X(i) - view.x) * view.k + width / 2, (view.y - Y(i)) * view.k + height / 2];
const radius = () => Math.min(9, (count < 500 ? 5.5 : count < 3000 ? 4 : count < 20000 ? 2.8 : 2) * Math.min(1, width / 700) ** .5 * (view.k / whole) ** .4);

function stamp(n, size) {
  const key = `${n} ${size}`;
  if (stamps.has(key)) return stamps.get(key);
  const image = document.createElement("canvas"), ink = image.getContext("2d"), side = Math.ceil(2 * size + 4), middle = side / 2;
  [image.width, image.height] = [side, side];
  ink.fillStyle = groups[n].colour;
  ink.strokeStyle = night.matches ? "#fff7" : "#0006";
  ink.lineWidth = Math.max(.6, size / 7);
  ink.beginPath();
  if (groups[n].shape === 0) ink.arc(middle, middle, size, 0, 7);
  else if (groups[n].shape === 1) ink.rect(middle - .85 * size, middle - .85 * size, 1.7 * size, 1.7 * size);
  else for (let t = 0; t < 3; t++) ink.lineTo(middle + 1.2 * size * Math.sin(t * 2.094), middle - 1.2 * size * Math.cos(t * 2.094));
  ink.closePath();
  ink.fill();
  ink.stroke();
  stamps.set(key, image);
  return image;
}

function paint() {
  if (asked) return;
  asked = true;
  requestAnimationFrame(() => { asked = false; draw(); });
}

/** Draw the points on a layer of their own, anew only if they changed; returns those that are shown and in view. */
function drawPoints(ratio) {
  const key = [view.x, view.y, view.k, canvas.width, canvas.height, version].join();
  if (key === layer.key) return layer.inside;
  const size = Math.round(radius() * ratio * 2) / 2, inside = [];
  [layer.canvas.width, layer.canvas.height] = [canvas.width, canvas.height];
  const ink = layer.canvas.getContext("2d");
  for (const visible of [0, 1]) {
    ink.globalAlpha = visible ? .9 : .1;
    for (let i = 0; i < count; i++) {
      if (shown[i] !== visible) continue;
      const [x, y] = place(i);
      if (x < -20 || y < -20 || x > width + 20 || y > height + 20) continue;
      if (visible) inside.push(i);
      const image = stamp(group[i], size);
      ink.drawImage(image, x * ratio - image.width / 2, y * ratio - image.height / 2);
    }
  }
  [layer.key, layer.inside] = [key, inside];
  return inside;
}

function draw() {
  const ratio = devicePixelRatio || 1, inside = drawPoints(ratio);
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.clearRect(0, 0, canvas.width, canvas.height);
  if (canvas.width && canvas.height) context.drawImage(layer.canvas, 0, 0);
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  if (inside.length * 4000 < width * height) for (const i of inside) framed(i, 38);
  if (selected >= 0) {
    const [x, y] = place(selected);
    context.strokeStyle = night.matches ? "#fffc" : "#000a";
    context.lineWidth = 1.2;
    for (const other of nearest(selected)) {
      const [a, b] = place(other);
      context.beginPath(); context.moveTo(x, y); context.lineTo(a, b); context.stroke();
      if (!framed(other, 34)) ring(other, 3, 1.5);
    }
    if (!framed(selected, 56, night.matches ? "#fff" : "#000")) ring(selected, 6, 2.5);
  }
  if (hovered >= 0 && hovered !== selected) ring(hovered, 3, 2);
}

function ring(i, gap, thick) {
  const [x, y] = place(i);
  context.beginPath();
  context.arc(x, y, radius() + gap, 0, 7);
  context.lineWidth = thick;
  context.strokeStyle = night.matches ? "#fff" : "#000";
  context.stroke();
}

function framed(i, side, colour = groups[group[i]].colour) {
  const [x, y] = place(i), [w, h] = fitted(i, side);
  if (!w) return false;
  context.fillStyle = colour;
  context.fillRect(x - w / 2 - 2, y - h / 2 - 2, w + 4, h + 4);
  put(context, i, x - w / 2, y - h / 2, w, h);
  return true;
}

/* Thumbnails */
const fitted = (i, side) => {
  if (tiles[i] < 0) return [0, 0];
  const [w, h] = [sizes[2 * tiles[i]], sizes[2 * tiles[i] + 1]], grow = side / Math.max(w, h);
  return [w * grow, h * grow];
};

function put(ink, i, x, y, w, h) {
  const tile = tiles[i], image = sheets[Math.floor(tile / 1024)], at = tile % 1024;
  if (!image.complete) return;
  ink.drawImage(image, data.tile * (at % 32), data.tile * Math.floor(at / 32), sizes[2 * tile], sizes[2 * tile + 1], x, y, w, h);
}

function thumb(i, side) {
  const [w, h] = fitted(i, side);
  if (!w) return null;
  const small = make("canvas", "", {class: "thumb", width: Math.round(2 * w), height: Math.round(2 * h), role: "img", "aria-label": `Picture of ${label(i)}`});
  [small.style.width, small.style.height] = [`${w}px`, `${h}px`];
  const ink = small.getContext("2d"), image = sheets[Math.floor(tiles[i] / 1024)], fill = () => put(ink, i, 0, 0, small.width, small.height);
  image.complete ? fill() : image.addEventListener("load", fill);
  return small;
}

/* Items */
const nearest = i => Array.from(neighbours.subarray(near * i, near * (i + 1)));

function list(items, note) {
  const pictures = items.some(i => tiles[i] >= 0), place = make("ol", "", pictures ? {} : {class: "plain"});
  for (const i of items) {
    const line = make("li"), button = make("button", "", {type: "button"});
    if (pictures) button.append(thumb(i, 40) || make("i"));
    button.append(make("span", label(i)), make("span", note(i, items.indexOf(i)), {class: "soft"}));
    button.onclick = () => select(i, true);
    button.onmouseenter = button.onfocus = () => { hovered = i; paint(); };
    line.append(button);
    place.append(line);
  }
  place.onkeydown = event => {
    const step = {ArrowDown: 1, ArrowUp: -1}[event.key];
    if (!step) return;
    const buttons = [...place.querySelectorAll("button")];
    buttons[buttons.indexOf(document.activeElement) + step]?.focus();
    event.preventDefault();
  };
  return place;
}

function select(i, focus = false) {
  selected = i;
  hovered = -1;
  $("tip").hidden = true;
  const box = $("item");
  box.hidden = i < 0;
  if (i < 0) return paint();
  const close = make("button", "×", {type: "button", class: "close", "aria-label": "Leave this item"});
  close.onclick = () => { select(-1); canvas.focus(); };
  const head = make("h2", label(i), {tabindex: -1}), facts = make("dl"), others = nearest(i);
  for (const part of data.columns) {
    const value = cell(part, i);
    if (value && value !== label(i)) facts.append(make("dt", part.name), make("dd", value));
  }
  const marks = others.map((_, n) => (cosines[near * i + n] / 1e4).toFixed(2));
  const picture = thumb(i, 128);
  box.replaceChildren(close, ...picture ? [picture] : [], head, facts);
  if (others.length) box.append(make("h3", "Nearest, by cosine in the full space"), list(others, (_, n) => marks[n]));
  $("items").scrollTop = 0;
  const [x, y] = place(i);
  if (x < 20 || y < 20 || x > width - 20 || y > height - 20) [view.x, view.y] = [X(i), Y(i)];
  if (focus) head.focus({preventScroll: true});
  paint();
}

/* Pointer */
function under(x, y, reach) {
  let best = -1, least = reach * reach;
  for (let i = 0; i < count; i++) {
    if (!shown[i]) continue;
    const [a, b] = place(i), distance = (a - x) ** 2 + (b - y) ** 2;
    if (distance < least) [best, least] = [i, distance];
  }
  return best;
}

function tip(i, x, y) {
  const box = $("tip");
  box.hidden = i < 0;
  if (i < 0) return;
  const text = make("div"), lines = data.columns.filter(part => cell(part, i) && cell(part, i) !== label(i));
  if (column) lines.sort((a, b) => (b === column) - (a === column));
  text.append(make("b", label(i)), ...lines.slice(0, 3).map(part => make("div", `${part.name}: ${cell(part, i).slice(0, 80)}`, {class: "soft"})));
  const picture = thumb(i, 64);
  box.replaceChildren(...picture ? [picture] : [], text);
  const [w, h] = [box.offsetWidth, box.offsetHeight];
  box.style.left = `${Math.max(4, x + 14 + w > width ? x - w - 14 : x + 14)}px`;
  box.style.top = `${Math.max(4, y + 14 + h > height ? y - h - 14 : y + 14)}px`;
}

function zoom(factor, x = width / 2, y = height / 2) {
  const k = Math.min(whole * 400, Math.max(whole * .5, view.k * factor));
  view.x += (x - width / 2) * (1 / view.k - 1 / k);
  view.y -= (y - height / 2) * (1 / view.k - 1 / k);
  view.k = k;
  $("tip").hidden = true;
  paint();
}

const down = new Map();
let moved = 0;
const local = event => { const box = canvas.getBoundingClientRect(); return [event.clientX - box.left, event.clientY - box.top]; };
canvas.onpointerdown = event => {
  if (!down.size) moved = 0;
  canvas.setPointerCapture(event.pointerId);
  down.set(event.pointerId, local(event));
};
canvas.onpointermove = event => {
  const [x, y] = local(event), last = down.get(event.pointerId);
  if (!last) {
    hovered = under(x, y, radius() + 8);
    canvas.style.cursor = hovered < 0 ? "grab" : "pointer";
    tip(hovered, x, y);
    return paint();
  }
  const other = [...down].find(([id]) => id !== event.pointerId)?.[1];
  if (other) zoom(Math.hypot(x - other[0], y - other[1]) / (Math.hypot(last[0] - other[0], last[1] - other[1]) || 1), ...other);
  else { view.x -= (x - last[0]) / view.k; view.y += (y - last[1]) / view.k; }
  moved += Math.hypot(x - last[0], y - last[1]);
  down.set(event.pointerId, [x, y]);
  if (moved > 4) $("tip").hidden = true;
  paint();
};
canvas.onpointerup = canvas.onpointercancel = event => {
  const single = down.size === 1, [x, y] = local(event);
  down.delete(event.pointerId);
  if (event.type !== "pointerup" || !single || moved > 4) return;
  const touch = event.pointerType === "touch", i = under(x, y, touch ? 24 : radius() + 8);
  select(i);
  if (touch) tip(i, x, y); // the list may be below the screen
};
canvas.onpointerleave = event => { if (!down.size && event.pointerType !== "touch") { hovered = -1; $("tip").hidden = true; paint(); } };
canvas.addEventListener("wheel", event => {
  event.preventDefault();
  zoom(Math.exp(-event.deltaY * (event.deltaMode ? .06 : .002)), ...local(event));
}, {passive: false});

/* Keys */
function step(dx, dy) {
  if (selected < 0) return select(under(width / 2, height / 2, 1e9));
  const [x, y] = place(selected);
  let best = -1, least = Infinity;
  for (const i of matches) {
    const [a, b] = place(i), along = (a - x) * dx + (b - y) * dy, aside = Math.abs((a - x) * dy) + Math.abs((b - y) * dx);
    if (i === selected || along <= 0 || aside > along) continue;
    const distance = along + 2 * aside;
    if (distance < least) [best, least] = [i, distance];
  }
  if (best >= 0) select(best);
}

canvas.onkeydown = event => {
  const arrow = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}[event.key];
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (arrow) step(...arrow);
  else if (event.key === "Enter") $("item").hidden ? step(0, 0) : ($("item").querySelector("ol button") || $("item").querySelector("h2")).focus();
  else if (event.key === "+" || event.key === "=") zoom(1.5);
  else if (event.key === "-") zoom(1 / 1.5);
  else if (event.key === "0") fit();
  else return;
  event.preventDefault();
};
document.addEventListener("keydown", event => {
  if (event.key === "Escape") {
    if (document.activeElement === $("search") && words) { $("search").value = words = ""; filter(); }
    else if (selected >= 0) { select(-1); canvas.focus(); }
  } else if (event.key === "/" && document.activeElement !== $("search")) {
    $("search").focus();
    event.preventDefault();
  }
});
$("search").oninput = () => { words = $("search").value; filter(); };
$("search").onkeydown = event => {
  if (event.key === "Enter" && matches.length && words) select(matches[0], true);
  else if (event.key === "ArrowDown") $("hits").querySelector("button")?.focus();
  else return;
  event.preventDefault();
};
$("in").onclick = () => zoom(1.6);
$("out").onclick = () => zoom(1 / 1.6);
$("fit").onclick = fit;
$("colour").append(make("option", "nothing", {value: -1}), ...data.columns.map((part, n) => make("option", part.name, {value: n})));
$("colour").value = data.colour;
$("colour").onchange = () => colourBy(data.columns[$("colour").value]);
night.onchange = () => { version++; stamps.clear(); legend(); paint(); };
new ResizeObserver(resize).observe($("stage"));
colourBy(data.columns[data.colour]);
