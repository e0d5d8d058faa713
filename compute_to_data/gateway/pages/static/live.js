// Makes the pages live. Each of them is whole without this script.
"use strict";

const say = (text) => { document.getElementById("said").textContent = text; };
const proof = document.body.dataset.proof || "";

// What changes on a page lies in parts marked data-live. While somebody looks at it, they are fetched again.
const live = () => document.getElementById("live");
let busy = false;

async function refresh() {
  if (busy || document.hidden || !live()) return;
  busy = true;
  try {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
    if (answer.redirected && new URL(answer.url).pathname === "/sign-in") { location.reload(); return; }
    if (!answer.ok) return;
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    const before = states();
    for (const old of document.querySelectorAll("[data-live]")) replace(old, fresh.getElementById(old.id));
    if (states() !== before) say(states());
  } catch { /* the gateway does not answer now; ask again later */ } finally { busy = false; }
}

function replace(old, fresh) {
  if (!fresh || fresh.outerHTML === old.dataset.seen) return;
  const active = document.activeElement;
  if (old.contains(active) && active.matches("input, select, textarea")) return;
  const seen = fresh.outerHTML;
  if (seen !== old.outerHTML) {
    const focused = focusable(old).indexOf(active);
    const opened = [...old.querySelectorAll("details")].map((one) => one.open);
    fresh.querySelectorAll("details").forEach((one, place) => { one.open = opened[place] || false; });
    fresh = document.adoptNode(fresh);
    old.replaceWith(fresh);
    old = fresh;
    prepare(old);
    if (focused >= 0) focusable(old)[focused]?.focus();
  }
  old.dataset.seen = seen;
}
const focusable = (part) => [...part.querySelectorAll("a, button, input, select, summary")];
const states = () => [...live().querySelectorAll(".state")].slice(0, 3).map((one) => one.textContent).join(", ");

function keepFresh() {
  const seconds = Number(live()?.dataset.refresh || 0);
  if (!seconds) return;
  setTimeout(async () => { await refresh(); keepFresh(); }, seconds * 1000);
}
keepFresh();
document.addEventListener("visibilitychange", () => { if (!document.hidden && live()?.dataset.refresh) refresh(); });

// The log of a task that has not ended.
const MOST = 400000; // characters of each stream
const colours = /\x1b\[[0-9;]*[A-Za-z]/g;

class Stream {
  constructor(section) {
    this.section = section;
    this.pre = section.querySelector("pre");
    this.text = "";
  }
  add(piece) {
    const start = this.text.lastIndexOf("\n") + 1;
    const lines = (this.text.slice(start) + piece.replace(colours, "")).split("\n");
    const last = lines.length - 1;
    const shown = lines.map((line, place) => {
      // Of a line that the program wrote over, only its last state is shown.
      const kept = line.replace(/\r+$/, "");
      return kept.slice(kept.lastIndexOf("\r") + 1) + (place === last && kept !== line ? "\r" : "");
    });
    const whole = this.text.slice(0, start) + shown.join("\n");
    this.text = whole.slice(-MOST);
    if (whole.length > MOST) this.section.querySelector(".cut").hidden = false;
    const isAtEnd = this.pre.scrollHeight - this.pre.scrollTop - this.pre.clientHeight < 40;
    this.pre.textContent = this.text;
    this.section.hidden = false;
    if (isAtEnd) this.pre.scrollTop = this.pre.scrollHeight;
  }
  clear() { this.text = ""; this.pre.textContent = ""; this.section.querySelector(".cut").hidden = true; }
}

function follow(address) {
  const streams = {};
  for (const section of document.querySelectorAll(".log")) streams[section.dataset.stream] = new Stream(section);
  const note = document.getElementById("log-note");
  const tell = (text) => { note.hidden = false; note.append(...(note.hasChildNodes() ? [document.createElement("br")] : []), text); };
  const events = new EventSource(address);
  for (const [name, stream] of Object.entries(streams)) {
    events.addEventListener(name, (event) => stream.add(JSON.parse(event.data).text));
  }
  events.addEventListener("restart", () => Object.values(streams).forEach((one) => one.clear()));
  events.addEventListener("note", (event) => tell(JSON.parse(event.data).text));
  events.addEventListener("state", refresh);
  const ended = async () => { events.close(); while (busy) await new Promise((go) => setTimeout(go, 50)); refresh(); };
  events.addEventListener("end", ended);
  events.addEventListener("problem", (event) => { tell(JSON.parse(event.data).detail); ended(); });
  // A browser tries again by itself, unless the gateway has refused.
  events.addEventListener("error", () => {
    if (events.readyState === EventSource.CLOSED) tell("The log cannot be followed now. Open this page again to see it.");
  });
}
if (live()?.dataset.events && document.querySelector(".log")) follow(live().dataset.events);

// Small comforts.
document.addEventListener("submit", (event) => {
  const question = event.target.dataset.question;
  if (question && !confirm(question)) { event.preventDefault(); return; }
  if (event.target.method === "post" && !event.defaultPrevented) {
    // A second click sends nothing twice; going back to the page gives the button back.
    for (const button of event.target.querySelectorAll("button")) setTimeout(() => { button.disabled = true; });
  }
});
addEventListener("pageshow", () => document.querySelectorAll("button:disabled").forEach((one) => { one.disabled = false; }));
function prepare(part) {
  for (const button of part.querySelectorAll("[data-copy]")) {
    button.hidden = !navigator.clipboard;
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(button.previousElementSibling.textContent);
      button.textContent = "Copied";
      say("Copied");
    });
  }
}
prepare(document);

// Uploads: folders can be dropped, and the page says how far the upload is.

async function filesOf(entry, into, above) {
  if (entry.isFile) {
    const file = await new Promise((found, failed) => entry.file(found, failed));
    into.push([file, above + file.name]);
    return;
  }
  const reader = entry.createReader();
  for (;;) {
    const some = await new Promise((found, failed) => reader.readEntries(found, failed));
    if (!some.length) return;
    for (const one of some) await filesOf(one, into, `${above}${entry.name}/`);
  }
}

function uploading(form) {
  const area = form.querySelector(".drop");
  const said = form.querySelector("[data-said]");
  const progress = form.querySelector("progress");
  const button = form.querySelector("button");
  let dropped = [];
  for (const part of form.querySelectorAll("[data-needs-script]")) part.hidden = false;

  const over = (event) => { event.preventDefault(); area.classList.add("over"); };
  area.addEventListener("dragenter", over);
  area.addEventListener("dragover", over);
  area.addEventListener("dragleave", () => area.classList.remove("over"));
  area.addEventListener("drop", async (event) => {
    event.preventDefault();
    area.classList.remove("over");
    const entries = [...event.dataTransfer.items].map((one) => one.webkitGetAsEntry?.()).filter(Boolean);
    const found = [];
    try {
      for (const entry of entries) await filesOf(entry, found, "");
    } catch (problem) { said.textContent = `It cannot be read: ${problem.message}`; return; }
    // What is dropped later comes beside what was dropped before, or takes its place.
    const names = new Set(found.map(([, name]) => name));
    dropped = [...dropped.filter(([, name]) => !names.has(name)), ...found];
    const size = dropped.reduce((sum, [file]) => sum + file.size, 0);
    said.textContent = `${dropped.length} ${dropped.length === 1 ? "file" : "files"}, ${Math.ceil(size / 1000)} kB: ready to upload`;
    button.focus();
  });

  const signedOut = form.querySelector("[data-signed-out]");
  const stop = (text) => { said.textContent = text; progress.hidden = true; button.disabled = false; };
  // Asked before anything is sent: an answer in the middle of an upload may be lost.
  const mayBegin = async () => {
    const answer = await fetch(form.dataset.me).catch(() => null);
    signedOut.hidden = answer?.status !== 401;
    if (answer?.ok) return true;
    const why = answer ? (await answer.json().catch(() => null))?.detail : "The gateway does not answer.";
    stop(answer?.status === 401 ? "" : why || `The gateway answered ${answer.status}.`);
    return false;
  };

  form.addEventListener("submit", async (event) => {
    const chosen = [...form.querySelectorAll("input[type=file]")].flatMap((one) => [...one.files]);
    const files = [...dropped, ...chosen.map((file) => [file, file.webkitRelativePath || file.name])];
    event.preventDefault();
    if (!files.length) { said.textContent = "Drop or choose a folder or files first."; return; }
    button.disabled = true;
    if (!await mayBegin()) return;
    const body = new FormData();
    for (const [file, name] of files) body.append("files", file, name);
    const request = new XMLHttpRequest();
    const name = form.querySelector("[name=name]").value.trim();
    request.open("POST", form.dataset.upload + (name ? `&name=${encodeURIComponent(name)}` : ""));
    request.responseType = "json";
    request.upload.addEventListener("progress", (event) => { progress.value = event.loaded / event.total; });
    request.upload.addEventListener("load", () => { said.textContent = "All has arrived; the zone is storing it."; });
    request.addEventListener("load", () => {
      const made = request.response;
      const ignored = made?.ignored?.length;
      if (request.status === 201) location.assign(`${form.dataset.to}${encodeURIComponent(made.dataset)}${ignored ? `?ignored=${ignored}` : ""}`);
      else if (request.status === 401) { stop(""); signedOut.hidden = false; } // what was dropped or chosen is still there
      else stop(request.response?.detail || `The gateway answered ${request.status}.`);
    });
    request.addEventListener("error", () => stop("The upload was cut off. Nothing of it is kept; try again."));
    said.textContent = "Uploading";
    progress.hidden = false;
    request.send(body);
  });
}
for (const form of document.querySelectorAll("form[data-upload]")) uploading(form);
