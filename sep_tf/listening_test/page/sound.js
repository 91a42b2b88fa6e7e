"use strict";
// The clips: loading them, and the buttons that play them.

// So much of both clips must have been heard before a choice can be made.
const HEARD_SHARE = 0.8;

const loaded = new Map();

function sound(file) {
  if (!loaded.has(file)) loaded.set(file, makeSound(file));
  return loaded.get(file);
}

function makeSound(file) {
  const audio = new Audio();
  audio.preload = "auto";
  audio.src = file;
  // A clip that could not be loaded is asked for again: the server may be back.
  audio.addEventListener("error", () => setTimeout(() => { if (loaded.get(file) === audio) audio.load(); }, RETRY_MS));
  return audio;
}

// Browsers take no more than some dozens of sounds at once.
function forgetAllBut(files) {
  for (const [file, audio] of loaded) {
    if (files.has(file)) continue;
    loaded.delete(file);
    audio.removeAttribute("src");
    audio.load();
  }
}

function stopAll() {
  for (const audio of loaded.values()) audio.pause();
}

// A line that is read aloud when it changes: clips that cannot be loaded, else what can be done.
function liveLine(hint) {
  const line = el("p", { className: "status", role: "status" }), missing = new Set();
  const write = () => {
    const text = missing.size ? `Cannot be loaded, trying again: ${[...missing].sort().join(", ")}.` : hint;
    if (line.textContent !== text) line.textContent = text;
    line.classList.toggle("warn", missing.size > 0);
  };
  write();
  return {
    line,
    say(text) { hint = text; write(); },
    miss(name) { missing.add(name); write(); },
    found(name) { missing.delete(name); write(); },
  };
}

function clipButton(live, name, hint, file, onHeard, wide) {
  const audio = sound(file), done = el("span", { className: "done" });
  const button = el("button", { type: "button", className: wide ? "clip wide" : "clip", "aria-pressed": "false" },
    el("span", { className: "icon" }), el("b", { textContent: name }), el("small", { textContent: hint }), done);
  button.plays = 0;
  const listen = (event, act) => audio.addEventListener(event, act, { signal: leaving.signal });
  let furthest = 0;
  listen("play", () => button.setAttribute("aria-pressed", "true"));
  listen("pause", () => button.setAttribute("aria-pressed", "false"));
  listen("error", () => live.miss(name));
  listen("canplay", () => live.found(name));
  const heard = () => {
    if (!(audio.duration > 0)) return;
    furthest = Math.max(furthest, audio.currentTime / audio.duration);
    done.style.width = `${100 * audio.currentTime / audio.duration}%`;
    if (furthest >= HEARD_SHARE) onHeard();
  };
  listen("timeupdate", heard);
  listen("ended", () => { furthest = 1; onHeard(); done.style.width = "0"; });
  button.addEventListener("click", () => {
    if (!audio.paused) { audio.pause(); return; }
    stopAll();
    audio.currentTime = 0;
    button.plays += 1;
    audio.play().catch(() => {});  // shown by the error event
  });
  return button;
}
