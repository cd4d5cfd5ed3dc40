"use strict";

// The page of a library: a list of photographs in parts, of which those near the screen are in the page; a view of one; and what
// its owner says of them, sent at once and kept for undoing.

const API = "v1/library";
/** Photographs asked for at once. */
const PART = 200;
/** Thumbnails on their way at once: browsers keep six connections to a server, and a search needs one. */
const LOADS = 4;
/** The most photographs that are corrected at once. */
const MOST = 10000;
const GAP = 8;
const CAPTION = 24;

const $ = (id) => document.getElementById(id);
const grid = $("grid");

/** What is listed: `photos` has those of the parts that have come. */
const list = { selection: 0, total: 0, photos: [], at: new Map(), parts: new Map() };
/** Tiles in the page, by their places in the list. */
const tiles = new Map();
const selected = new Set();
const undoing = [];
const measures = { columns: 1, side: 100, row: 100 };
/** The tile that Tab leads to, and where a selection by Shift begins. */
let active = 0;
let anchor = 0;
let like = "";
let loading = 0;
let search = new AbortController();
/** The photograph in the view, by its place in the list. */
let viewed = -1;
let about = {};

const element = (name, text = "", attributes = {}) => {
  const made = Object.assign(document.createElement(name), attributes);
  made.textContent = text;
  return made;
};
const percent = (share) => `${(100 * share).toFixed(0)} %`;
const count = (many) => `${many.toLocaleString("en")} photograph${many === 1 ? "" : "s"}`;
const file = (id) => id.slice(id.lastIndexOf("/") + 1);

/** Says what has happened, to those who hear the page, too. */
function say(text) {
  const place = $("view").open ? $("view-status") : $("status");
  // The same text again would not be read.
  place.textContent = place.textContent === text ? `${text}\u00a0` : text;
}

const headers = () => ($("token").value ? { Authorization: `Bearer ${$("token").value}` } : {});

/** Asks the server; gives its reply, or throws what it says is wrong. */
async function ask(path, { body, signal } = {}) {
  const options = { signal, headers: headers() };
  if (body) {
    Object.assign(options, { method: "POST", body: JSON.stringify(body) });
    options.headers["Content-Type"] = "application/json";
  }
  const response = await fetch(`${API}${path}`, options).catch((error) => {
    throw error.name === "AbortError" ? error : new Error("The server cannot be reached.");
  });
  const reply = await response.json().catch(() => ({}));
  if (response.ok) return reply;
  if (response.status === 401) {
    $("token-row").hidden = false;
    $("token").focus();
  }
  const wrong = new Error(reply.error ? reply.error.message : `The server answered ${response.status}.`);
  throw Object.assign(wrong, { code: reply.error?.code });
}

/** Runs something of which an error is to be told. */
async function told(work) {
  try {
    await work();
  } catch (error) {
    if (error.name !== "AbortError") say(error.message);
  }
}

// The list.

/** What the form asks for, as the server takes it. */
function wanted() {
  const asked = new URLSearchParams();
  for (const [name, value] of new FormData($("find"))) {
    if (value.trim() && !(name === "probability" && value === "0")) asked.set(name, value.trim());
  }
  if (like) {
    asked.delete("q");
    asked.set("like", like);
  }
  return asked;
}

/** Asks for the list anew. An earlier question is not waited for. */
function find(keep = false) {
  search.abort();
  search = new AbortController();
  const { signal } = search;
  const asked = wanted();
  const filters = ["label", "probability", "since", "until", "folder", "unreviewed", "broken"];
  const some = filters.filter((name) => asked.has(name)).length;
  $("active").textContent = some ? ` (${some})` : "";
  $("like").hidden = !like;
  $("like-name").textContent = file(like);
  history.replaceState(null, "", asked.size ? `#${asked}` : location.pathname);
  return told(async () => {
    const reply = await ask(`/photos?${asked}&limit=${PART}`, { signal });
    Object.assign(list, { selection: reply.selection, total: reply.total, photos: [] });
    list.at.clear();
    list.parts.clear();
    list.parts.set(0, Promise.resolve());
    take(reply);
    const held = grid.contains(document.activeElement);
    for (const place of [...tiles.keys()]) remove(place);
    if (!keep) {
      [active, anchor] = [0, 0];
      selected.clear();
      scrollTo(0, 0);
    }
    active = Math.max(0, Math.min(active, list.total - 1));
    layout();
    if (held) focus(active);
    bar();
    say(list.total ? `${count(list.total)}${asked.has("q") ? ", the best first" : ""}` : "No photograph is like that.");
  });
}

function take(reply) {
  reply.photos.forEach((photo, nth) => {
    list.photos[reply.offset + nth] = photo;
    list.at.set(photo.id, reply.offset + nth);
  });
}

/** Makes sure that the photographs of a part of the list are here. */
function part(number) {
  if (!list.parts.has(number)) {
    const { selection } = list;
    const load = async () => {
      const reply = await ask(`/photos?selection=${selection}&offset=${number * PART}&limit=${PART}`);
      if (selection !== list.selection) return;
      take(reply);
      for (const [place, tile] of tiles) if (!tile.photo) fill(place, tile);
      pump();
    };
    list.parts.set(number, load().catch((error) => {
      list.parts.delete(number);
      if (error.code === "selection") return find(true);
      throw error;
    }));
  }
  return list.parts.get(number);
}

/** The photographs from one place to another, once they are here. */
async function photos(from, to) {
  const parts = [];
  for (let number = Math.floor(from / PART); number <= Math.floor(to / PART); number++) parts.push(part(number));
  await Promise.all(parts);
  return list.photos.slice(from, to + 1);
}

// The grid.

function layout() {
  const width = grid.clientWidth;
  const least = width < 500 ? 105 : 170;
  measures.columns = Math.max(1, Math.floor((width + GAP) / (least + GAP)));
  measures.side = Math.floor((width - GAP * (measures.columns - 1)) / measures.columns);
  measures.row = measures.side + CAPTION + GAP;
  grid.style.height = `${Math.ceil(list.total / measures.columns) * measures.row}px`;
  tiles.forEach((tile, place) => put(place, tile));
  render();
}

/** Brings those tiles into the page that are on the screen or within a screen of it, and the active one; takes out all others. */
function render() {
  const { columns, row } = measures;
  const top = scrollY - grid.offsetTop;
  const first = Math.max(0, Math.floor((top - innerHeight) / row)) * columns;
  const end = Math.min(list.total, Math.ceil((top + 2 * innerHeight) / row) * columns);
  for (const place of [...tiles.keys()]) {
    if ((place < first || place >= end) && place !== active) remove(place);
  }
  const places = Array.from({ length: Math.max(0, end - first) }, (_, nth) => first + nth);
  if (active < list.total && (active < first || active >= end)) places[active < first ? "unshift" : "push"](active);
  let before = grid.firstChild;
  for (const place of places) {
    let tile = tiles.get(place);
    if (tile) {
      before = tile.node.nextSibling;
      continue;
    }
    tile = make(place);
    grid.insertBefore(tile.node, before);
  }
  for (let number = Math.floor(first / PART); number * PART < end; number++) told(() => part(number));
  pump();
}

function make(place) {
  const node = element("div", "", { className: "tile", tabIndex: place === active ? 0 : -1 });
  node.setAttribute("role", "option");
  node.dataset.place = place;
  const picture = element("img", "", { alt: "", decoding: "async", draggable: false });
  const tile = { node, picture, photo: null, note: element("span", "", { className: "note" }), caption: element("span", "", { className: "caption" }) };
  node.append(picture, element("span", "", { className: "pick" }), tile.note, tile.caption);
  tiles.set(place, tile);
  put(place, tile);
  fill(place, tile);
  return tile;
}

function put(place, { node, picture }) {
  const { columns, side, row } = measures;
  node.style.width = `${side}px`;
  node.style.height = `${row - GAP}px`;
  node.style.transform = `translate(${(place % columns) * (side + GAP)}px, ${Math.floor(place / columns) * row}px)`;
  picture.style.height = `${side}px`;
}

/** Shows what is known of the photograph at a place. */
function fill(place, tile) {
  const photo = list.photos[place];
  const { node, note, caption } = tile;
  node.setAttribute("aria-posinset", place + 1);
  node.setAttribute("aria-setsize", list.total);
  if (!photo) {
    node.setAttribute("aria-label", "on its way");
    node.setAttribute("aria-selected", "false");
    return;
  }
  if (tile.photo?.id !== photo.id || tile.photo.version !== photo.version) stop(tile);
  tile.photo = photo;
  const names = photo.labels.filter((label) => label.state !== "rejected").map((label) => label.name);
  const states = [photo.error && "could not be tagged", photo.reviewed && "reviewed"].filter(Boolean);
  caption.textContent = names.join(", ");
  note.textContent = photo.error ? "!" : photo.reviewed ? "✓" : "";
  note.hidden = !note.textContent;
  node.setAttribute("aria-label", [file(photo.id), names.join(", ") || "no labels", ...states].join("; "));
  node.setAttribute("aria-selected", String(selected.has(photo.id)));
}

function remove(place) {
  const tile = tiles.get(place);
  stop(tile);
  tile.node.remove();
  tiles.delete(place);
}

/** Forgets a tile's picture, and does not wait for it any more. */
function stop(tile) {
  tile.picture.onload = null;
  tile.picture.onerror = null;
  tile.cancel?.();
  tile.picture.removeAttribute("src");
  tile.picture.classList.remove("there");
  tile.state = "";
}

/** Loads the thumbnails that are missing, those on the screen first. */
function pump() {
  const { columns, row } = measures;
  const middle = (scrollY - grid.offsetTop + innerHeight / 2) / row;
  const far = (place) => Math.abs(Math.floor(place / columns) + 0.5 - middle);
  while (loading < LOADS) {
    let next = null;
    for (const [place, tile] of tiles) {
      const waits = tile.photo && !tile.photo.error && !tile.state;
      if (waits && (next === null || far(place) < far(next))) next = place;
    }
    if (next === null) return;
    load(tiles.get(next));
  }
}

const address = (kind, photo) => `${API}/${kind}?id=${encodeURIComponent(photo.id)}&version=${photo.version}`;

/** Gives an image its picture. With a token it is fetched: an image's own request cannot carry one. */
async function picture(image, url, signal) {
  if (!$("token").value) {
    image.src = url;
    return;
  }
  const response = await fetch(url, { headers: headers(), signal });
  if (!response.ok) throw new Error(`The server answered ${response.status}.`);
  const own = URL.createObjectURL(await response.blob());
  if (signal?.aborted) return;
  image.src = own;
  image.decode().catch(() => {}).then(() => URL.revokeObjectURL(own));
}

function load(tile) {
  const aborting = new AbortController();
  loading += 1;
  let open = true;
  const done = (state) => {
    if (!open) return;
    open = false;
    loading -= 1;
    tile.cancel = null;
    tile.state = state;
    if (state === "there") tile.picture.classList.add("there");
    if (state) pump();
  };
  tile.state = "loads";
  tile.cancel = () => {
    aborting.abort();
    done("");
  };
  tile.picture.onload = () => done("there");
  tile.picture.onerror = () => done("broken");
  picture(tile.picture, address("thumb", tile.photo), aborting.signal).catch(() => done("broken"));
}

/** Makes a place the active one, on the screen and with the focus. */
function focus(place) {
  if (!list.total) return;
  const before = tiles.get(active);
  if (before) before.node.tabIndex = -1;
  active = Math.max(0, Math.min(place, list.total - 1));
  const { columns, row } = measures;
  const top = grid.offsetTop + Math.floor(active / columns) * row;
  const below = $("bar").hidden ? 0 : $("bar").offsetHeight;
  if (top < scrollY) scrollTo(0, top - GAP);
  else if (top + row > scrollY + innerHeight - below) scrollTo(0, top + row - innerHeight + below);
  render();
  const { node } = tiles.get(active);
  node.tabIndex = 0;
  node.focus({ preventScroll: true });
}

// Selecting.

function mark() {
  for (const [place, tile] of tiles) if (tile.photo) fill(place, tile);
  bar();
}

function bar() {
  const was = $("bar").hidden;
  $("bar").hidden = selected.size === 0;
  $("count").textContent = `${selected.size.toLocaleString("en")} selected`;
  if (was && selected.size) $("bar-label").value ||= $("label").value || $("q").value;
}

function toggle(place) {
  const photo = list.photos[place];
  if (!photo) return;
  if (!selected.delete(photo.id)) selected.add(photo.id);
  anchor = place;
  mark();
  say(`${selected.size} selected`);
}

/** Selects all from where the last selection began to a place, and nothing else. */
async function extend(place) {
  const [from, to] = [Math.min(anchor, place), Math.max(anchor, place)];
  if (to - from >= MOST) throw new Error(`At most ${MOST.toLocaleString("en")} photographs are selected at once.`);
  const all = await photos(from, to);
  selected.clear();
  all.forEach((photo) => selected.add(photo.id));
  mark();
  say(`${selected.size} selected`);
}

function none() {
  selected.clear();
  mark();
  say("none selected");
}

// What the owner says.

let written = Promise.resolve();
/** Sends corrections, each when the one before it is answered: their order counts. */
function write(changes) {
  const answer = written.then(() => ask("/corrections", { body: changes }));
  written = answer.catch(() => {});
  return answer;
}

/** Sends corrections; what undoes them is kept. */
async function correct(changes, what) {
  const reply = await write(changes);
  undoing.push({ changes: reply.undo, what });
  changed(reply.photos, what);
  if (changes.labels?.some((label) => ![...$("known").options].some((known) => known.value === label.label))) facets();
}

async function undo() {
  const last = undoing.pop();
  if (!last) {
    say("There is nothing to undo.");
    return;
  }
  try {
    const reply = await write(last.changes);
    changed(reply.photos, `Undone: ${last.what}`);
  } catch (error) {
    undoing.push(last);
    throw error;
  }
}

/** Shows photographs as they are now. */
function changed(some, what) {
  for (const photo of some) {
    const place = list.at.get(photo.id);
    if (place === undefined) continue;
    list.photos[place] = photo;
    if (tiles.has(place)) fill(place, tiles.get(place));
    if (place === viewed) describe(photo);
  }
  $("undo").disabled = undoing.length === 0;
  $("view-undo").disabled = undoing.length === 0;
  pump();
  say(what);
}

const verdicts = { approved: "approved", rejected: "rejected", withdrawn: "as the program says" };

/** Says something of a label of the selected photographs. */
async function judge(verdict) {
  const label = $("bar-label").value.trim();
  if (!label) {
    $("bar-label").focus();
    throw new Error("Which label? Type it first.");
  }
  const labels = [...selected].map((photo) => ({ photo, label, verdict }));
  await correct({ labels }, `${label} ${verdicts[verdict]} on ${count(labels.length)}`);
}

async function review() {
  const reviewed = [...selected].map((photo) => ({ photo, reviewed: true }));
  await correct({ reviewed }, `${count(reviewed.length)} reviewed`);
}

// A photograph's view.

async function view(place) {
  const [photo] = await photos(place, place);
  if (!photo) return;
  viewed = place;
  if (!$("view").open) $("view").showModal();
  $("picture").alt = file(photo.id);
  $("picture").removeAttribute("src");
  $("view-status").textContent = "";
  $("new").value = "";
  $("labels").replaceChildren();
  describe(photo);
  $("previous").disabled = place === 0;
  $("next").disabled = place + 1 >= list.total;
  const button = $("labels").querySelector("button");
  (button ?? $("name")).focus();
  $("view").querySelector(".side").scrollTop = 0;
  await shown(photo);
}

async function shown(photo) {
  $("picture").alt = file(photo.id);
  $("picture").dataset.map = "";
  $("picture").onerror = () => say(photo.error ?? "The picture cannot be shown: its file is gone or damaged.");
  await picture($("picture"), address("picture", photo));
}

/** Shows what is known of the photograph in the view; the focus stays on the same button of the same label. */
function describe(photo) {
  const held = document.activeElement?.closest("#labels button");
  const [name, kind] = [held?.closest("li").dataset.name, held?.dataset.kind];
  $("name").textContent = file(photo.id);
  const date = new Date(photo.date * 1000).toISOString().slice(0, 16).replace("T", " ");
  const doubt = photo.doubt === undefined ? "" : ` · doubt ${photo.doubt.toFixed(1)} bits`;
  $("about").textContent = `${(viewed + 1).toLocaleString("en")} of ${list.total.toLocaleString("en")} · ${date}${doubt}${photo.id.includes("/") ? ` · ${photo.id.slice(0, photo.id.lastIndexOf("/"))}` : ""}`;
  $("reviewed").checked = photo.reviewed;
  const rows = photo.labels.map((label) => row(photo, label));
  $("labels").replaceChildren(...(rows.length ? rows : [element("li", photo.error ?? "No labels.")]));
  if (held) (button(name, kind) ?? $("name")).focus();
}

const button = (name, kind) => {
  const rows = [...$("labels").children];
  return rows.find((row) => row.dataset.name === name)?.querySelector(`[data-kind="${kind}"]`);
};

function row(photo, label) {
  const item = element("li", "", { className: label.state });
  item.dataset.name = label.name;
  const name = element("span", "", { className: "name" });
  const said = [label.state === "automatic" ? "" : label.state, label.probability === undefined ? "" : percent(label.probability)];
  name.append(element("span", [...(label.parents ?? []), label.name].join(" › ")), element("small", said.filter(Boolean).join(" · ")));
  const press = (kind, sign, words, pressed) => {
    const made = element("button", sign, { type: "button" });
    made.dataset.kind = kind;
    made.setAttribute("aria-label", words);
    made.setAttribute("aria-pressed", String(pressed));
    return made;
  };
  item.append(
    name,
    press("approved", "✓", `Approve ${label.name}`, label.state === "approved"),
    press("rejected", "✕", `Reject ${label.name}`, label.state === "rejected"),
    press("where", "where?", `Where is ${label.name}?`, $("picture").dataset.map === label.name),
  );
  return item;
}

/** Says something of a label of the photograph in the view; once more takes it back. */
async function say_of(label, verdict) {
  const photo = list.photos[viewed];
  const now = photo.labels.find((known) => known.name === label);
  if (now?.state === verdict) verdict = "withdrawn";
  await correct({ labels: [{ photo: photo.id, label, verdict }] }, `${label}: ${verdicts[verdict]}`);
}

/** Shows where the model looked for a label, or the photograph again. */
async function where(label) {
  const photo = list.photos[viewed];
  if ($("picture").dataset.map === label) {
    await shown(photo);
    describe(photo);
    return;
  }
  say(`Looking for ${label}…`);
  const reply = await ask("/explain", { body: { photo: photo.id, label } });
  if (list.photos[viewed]?.id !== photo.id) return;
  const [map] = reply.maps;
  $("picture").dataset.map = label;
  $("picture").src = map.picture;
  $("picture").alt = `${file(photo.id)}: ${map.what} for ${label}`;
  describe(list.photos[viewed]);
  say(`The picture shows where the model looked for ${label} (${map.what}).`);
}

async function step(by) {
  const place = viewed + by;
  if (place < 0 || place >= list.total) {
    say(by > 0 ? "That was the last photograph." : "That is the first photograph.");
    return;
  }
  await view(place);
}

async function reviewed(value) {
  const photo = list.photos[viewed];
  await correct({ reviewed: [{ photo: photo.id, reviewed: value }] }, `${file(photo.id)}: ${value ? "reviewed" : "not reviewed"}`);
}

/** Back to the photographs, to the one that was looked at. */
function leave() {
  const place = viewed;
  viewed = -1;
  $("view").close();
  $("picture").removeAttribute("src");
  focus(place);
}

function more(id) {
  if ($("view").open) leave();
  like = id;
  find().then(() => focus(0));
}

/** Labels and folders to choose from. */
function facets() {
  return told(async () => {
    const [labels, folders] = await Promise.all([ask("/labels"), ask("/folders")]);
    const option = ({ name, photographs }, text) => element("option", text, { value: name, label: text || `${name} (${photographs})` });
    $("known").replaceChildren(...labels.slice(0, 2000).map((label) => option(label, "")));
    const { value } = $("folder");
    $("folder").replaceChildren(element("option", "all", { value: "" }), ...folders.map((folder) => option(folder, `${folder.name} (${folder.photographs})`)));
    $("folder").value = value;
  });
}

// Keys and clicks.

const typing = (event) => event.target.matches("input:not([type=checkbox]), select, textarea");

function move(event, by) {
  const place = Math.max(0, Math.min(active + by, list.total - 1));
  focus(place);
  if (event.shiftKey) told(() => extend(place));
  else anchor = place;
}

/** The keys on a tile. Returns whether it was one of them. */
function tileKey(event) {
  const { columns, row } = measures;
  const page = Math.max(1, Math.floor(innerHeight / row) - 1) * columns;
  const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns, PageDown: page, PageUp: -page, Home: -active, End: list.total };
  if (event.ctrlKey || event.metaKey) {
    if (event.key !== "a") return false;
    anchor = 0;
    told(() => extend(list.total - 1));
    return true;
  }
  if (event.key in steps) {
    move(event, steps[event.key]);
    return true;
  }
  const chosen = () => {
    if (!selected.size) toggle(active);
  };
  const keys = {
    Enter: () => told(() => view(active)),
    " ": () => toggle(active),
    a: () => (chosen(), told(() => judge("approved"))),
    x: () => (chosen(), told(() => judge("rejected"))),
    r: () => (chosen(), told(review)),
    m: () => list.photos[active] && more(list.photos[active].id),
    Escape: none,
  };
  if (!keys[event.key]) return false;
  keys[event.key]();
  return true;
}

/** The keys in a photograph's view. */
function viewKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return false;
  const held = document.activeElement?.closest("#labels button");
  const rows = [...$("labels").querySelectorAll("li[data-name]")];
  const at = held ? rows.indexOf(held.closest("li")) : -1;
  const name = rows[at]?.dataset.name;
  const to = (place) => rows[Math.max(0, Math.min(place, rows.length - 1))]?.querySelector(`[data-kind="${held?.dataset.kind ?? "approved"}"]`).focus();
  const of_label = (work) => told(async () => {
    if (name === undefined) throw new Error("Which label? Go to one with the arrows first.");
    await work();
  });
  const keys = {
    ArrowRight: () => told(() => step(1)),
    ArrowLeft: () => told(() => step(-1)),
    ArrowDown: () => to(at + 1),
    ArrowUp: () => to(at - 1),
    a: () => of_label(() => say_of(name, "approved")),
    x: () => of_label(() => say_of(name, "rejected")),
    h: () => of_label(() => where(name)),
    n: () => $("new").focus(),
    Escape: leave,
    m: () => more(list.photos[viewed].id),
    r: () => told(async () => {
      await reviewed(true);
      await step(1);
    }),
  };
  if (!keys[event.key]) return false;
  keys[event.key]();
  return true;
}

document.addEventListener("keydown", (event) => {
  if (event.defaultPrevented || typing(event) || $("help").open) return;
  const undoes = event.key === "u" && !event.ctrlKey && !event.metaKey && !event.altKey;
  if (undoes || (event.key === "z" && (event.ctrlKey || event.metaKey))) {
    told(undo);
  } else if ($("view").open) {
    if (!viewKey(event)) return;
  } else if (event.target.closest(".tile")) {
    if (event.key === "/") $("q").focus();
    else if (!tileKey(event)) return;
  } else {
    return;
  }
  event.preventDefault();
});

grid.addEventListener("focusin", (event) => {
  const place = Number(event.target.closest(".tile")?.dataset.place);
  if (Number.isNaN(place) || place === active) return;
  const before = tiles.get(active);
  if (before) before.node.tabIndex = -1;
  active = place;
  tiles.get(place).node.tabIndex = 0;
});
grid.addEventListener("click", (event) => {
  const tile = event.target.closest(".tile");
  if (!tile) return;
  const place = Number(tile.dataset.place);
  focus(place);
  if (event.shiftKey) told(() => extend(place));
  else if (event.ctrlKey || event.metaKey || selected.size || event.target.closest(".pick")) toggle(place);
  else told(() => view(place));
});
// A shift-click selects photographs, no text.
grid.addEventListener("mousedown", (event) => event.shiftKey && event.preventDefault());

$("labels").addEventListener("click", (event) => {
  const pressed = event.target.closest("button");
  if (!pressed) return;
  const { name } = pressed.closest("li").dataset;
  const { kind } = pressed.dataset;
  told(() => (kind === "where" ? where(name) : say_of(name, kind)));
});
$("add").onsubmit = (event) => {
  event.preventDefault();
  const label = $("new").value.trim();
  if (!label) return;
  told(async () => {
    const photo = list.photos[viewed];
    await correct({ labels: [{ photo: photo.id, label, verdict: "approved" }] }, `${label} added`);
    $("new").value = "";
  });
};
$("new").addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  event.preventDefault();
  ($("labels").querySelector("button") ?? $("name")).focus();
});
$("reviewed").onchange = () => told(() => reviewed($("reviewed").checked));
$("previous").onclick = () => told(() => step(-1));
$("next").onclick = () => told(() => step(1));
$("more").onclick = () => more(list.photos[viewed].id);
$("close").onclick = leave;
// Where the system closed it; otherwise the next key came before this event.
$("view").onclose = () => viewed >= 0 && leave();
for (const id of ["undo", "view-undo"]) $(id).onclick = () => told(undo);
$("bar-approve").onclick = () => told(() => judge("approved"));
$("bar-reject").onclick = () => told(() => judge("rejected"));
$("bar-reviewed").onclick = () => told(review);
$("bar-none").onclick = () => {
  none();
  focus(active);
};
$("bar-label").onkeydown = (event) => {
  if (event.key === "Enter") told(() => judge("approved"));
};
$("keys").onclick = () => $("help").showModal();
$("help-close").onclick = () => $("help").close();
$("unlike").onclick = () => {
  like = "";
  find();
};
$("clear").onclick = () => {
  const { q, order } = Object.fromEntries(new FormData($("find")));
  $("find").reset();
  $("q").value = q;
  $("order").value = order;
  least();
  find();
};
$("token").onchange = () => start();
$("find").onsubmit = (event) => {
  event.preventDefault();
  find();
};

let pause = 0;
/** Asks when nobody has typed for a moment. */
function soon() {
  clearTimeout(pause);
  pause = setTimeout(find, 80);
}
const least = () => {
  $("least").textContent = percent($("probability").value);
};
$("find").addEventListener("input", (event) => {
  if (event.target.id === "q") like = "";
  least();
  soon();
});

let drawing = 0;
addEventListener("scroll", () => {
  drawing ||= requestAnimationFrame(() => {
    drawing = 0;
    render();
  });
}, { passive: true });
new ResizeObserver(() => {
  // The same row stays at the top of the screen.
  const nth = Math.floor(Math.max(0, scrollY - grid.offsetTop) / measures.row) * measures.columns;
  const moved = scrollY > grid.offsetTop;
  layout();
  if (moved) scrollTo(0, grid.offsetTop + Math.floor(nth / measures.columns) * measures.row);
}).observe(grid);

async function start() {
  await Promise.all([find(), facets(), told(async () => {
    about = await ask("");
    $("probability").parentElement.hidden = !about.probabilities;
    $("order").querySelector("[value=doubt]").disabled = !about.doubt;
    $("token-row").hidden = true;
  })]);
}

const asked = new URLSearchParams(location.hash.slice(1));
like = asked.get("like") ?? "";
for (const [name, value] of asked) {
  const field = $("find").elements[name];
  if (!field) continue;
  if (field.type === "checkbox") field.checked = true;
  else {
    // A folder is among those to choose from once they are known.
    if (name === "folder") field.append(element("option", value, { value }));
    field.value = value;
  }
}
least();
start();
