"use strict";

const $ = (id) => document.getElementById(id);
const photos = [];

const element = (name, text = "", attributes = {}) => {
  const made = Object.assign(document.createElement(name), attributes);
  made.textContent = text;
  return made;
};

/** Sends a form; gives the reply, or throws what the server says is wrong. */
async function send(path, parts) {
  const form = new FormData();
  for (const [name, value, file] of parts) {
    if (file === undefined) form.append(name, value);
    else form.append(name, value, file);
  }
  const headers = {};
  if ($("token").value) headers.Authorization = `Bearer ${$("token").value}`;
  const response = await fetch(path, { method: "POST", body: form, headers }).catch(() => {
    throw new Error("the server cannot be reached, or takes no file as large as this");
  });
  const reply = await response.json().catch(() => ({}));
  if (response.ok) return reply;
  if (response.status === 401) {
    $("token-row").hidden = false;
    $("token").focus();
  }
  throw new Error(reply.error ? reply.error.message : `The server answered ${response.status}.`);
}

/** A place on the page for a photograph. */
function place(file) {
  const entry = element("li");
  const figure = element("figure");
  const picture = element("img", "", { alt: file.name });
  picture.src = URL.createObjectURL(file);
  picture.onerror = () => picture.remove();
  figure.append(picture, element("figcaption", file.name));
  const results = element("div");
  entry.append(figure, results);
  $("photos").append(entry);
  return { file, figure, picture, results, own: picture.src };
}

async function rank(photo) {
  photo.picture.src = photo.own;
  photo.picture.className = "";
  photo.picture.alt = photo.file.name;
  photo.results.replaceChildren(element("p", "Looking…"));
  try {
    const parts = [["photo", photo.file, photo.file.name], ["labels", $("words").value]];
    const reply = await send("v1/predict", parts);
    show(photo, reply.photos[0].labels);
  } catch (error) {
    photo.results.replaceChildren(element("p", `${photo.file.name}: ${error.message}`, { className: "error" }));
  }
}

function show(photo, labels) {
  if (labels.length === 0) {
    photo.results.replaceChildren(element("p", "No label reaches its threshold."));
    return;
  }
  const list = element("ol", "", { className: "labels" });
  const scores = labels.map((label) => label.score);
  const least = Math.min(...scores, 0);
  const span = Math.max(...scores) - least || 1;
  for (const label of labels) {
    const item = element("li", "", { className: label.kept ? "kept" : "" });
    const share = label.probability ?? (label.score - least) / span;
    item.style.setProperty("--share", `${100 * share}%`);
    const name = element("span", label.name, { className: "name" });
    if (!label.seen) name.append(" ", element("small", "unseen"));
    const value = label.probability === undefined ? label.score.toFixed(3) : `${(100 * label.probability).toFixed(1)} %`;
    const where = element("button", "where?", { type: "button" });
    where.setAttribute("aria-label", `Where is ${label.name}?`);
    where.onclick = () => explain(photo, label.name);
    item.append(name, element("span", value), where);
    list.append(item);
  }
  photo.results.replaceChildren(list);
}

async function explain(photo, label) {
  $("status").textContent = `Looking for ${label}…`;
  try {
    const reply = await send("v1/explain", [["photo", photo.file, photo.file.name], ["label", label]]);
    const map = reply.maps[0];
    photo.picture.src = map.picture;
    photo.picture.className = "heat";
    photo.picture.alt = `${photo.file.name}: ${map.what} for ${label}`;
    $("status").textContent = `The picture shows where the model looked for ${label} (${map.what}).`;
  } catch (error) {
    $("status").textContent = error.message;
  }
}

async function take(files) {
  for (const file of files) photos.push(place(file));
  await rankAll(photos.slice(photos.length - files.length));
}

async function rankAll(some) {
  $("again").disabled = photos.length === 0;
  let done = 0;
  for (const photo of some) {
    $("status").textContent = `Photograph ${done + 1} of ${some.length}…`;
    await rank(photo);
    done += 1;
  }
  $("status").textContent = some.length === 1 ? "1 photograph looked at." : `${done} photographs looked at.`;
}

$("files").onchange = (event) => {
  const files = [...event.target.files];
  event.target.value = "";
  take(files);
};
$("form").onsubmit = (event) => {
  event.preventDefault();
  rankAll(photos);
};
for (const name of ["dragenter", "dragover"]) {
  $("drop").addEventListener(name, (event) => {
    event.preventDefault();
    $("drop").classList.add("over");
  });
}
$("drop").addEventListener("dragleave", () => $("drop").classList.remove("over"));
$("drop").addEventListener("drop", (event) => {
  event.preventDefault();
  $("drop").classList.remove("over");
  take([...event.dataTransfer.files]);
});
