"use strict";
// One participant's way through the test. Everything is kept in the browser first, so that a reload or a
// lost server costs nothing; answers are sent as soon as there is a server, and again until it has them.

const KEY = `listening-test-${TEST.id}`;
const RETRY_MS = 3000;
// Clips of so many coming questions are loaded ahead.
const AHEAD = 3;
const FIELDS = [
  ["language", "Your first language", null],
  ["fluency", "How well do you understand the language that is sung?", [["native", "It is my first language"], ["fluent", "Fluently"], ["some", "Somewhat"], ["none", "Not at all"]]],
  ["training", "Musical training", [["none", "None"], ["up to 3 years", "Up to 3 years"], ["3 to 10 years", "3 to 10 years"], ["over 10 years", "Over 10 years"]]],
  ["playback", "What are you listening on?", [["headphones", "Headphones"], ["earphones", "Earphones"], ["loudspeakers", "Loudspeakers"]]],
];

const $ = id => document.getElementById(id);

function el(tag, props, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props || {})) {
    if (name.startsWith("aria-") || name === "role") node.setAttribute(name, value);
    else node[name] = value;
  }
  node.append(...children);
  return node;
}

// What is kept

function fresh() {
  return { sheet: null, participant: null, step: 0, answers: {}, kept: [], questionnaire: null,
    headphones: { answers: [] }, finished: false, told: {} };
}

function load() {
  try {
    const found = JSON.parse(localStorage.getItem(KEY));
    return found && typeof found === "object" ? { ...fresh(), ...found } : fresh();
  } catch { return fresh(); }  // no storage, or not ours: the test begins anew
}

function save() {
  try { localStorage.setItem(KEY, JSON.stringify(state)); return true; } catch { return false; }
}

let state = load();

// The server

function headphoneResult() {
  const answers = state.headphones.answers;
  if (!TEST.headphones.length || answers.length < TEST.headphones.length) return null;
  return { right: answers.filter((a, n) => a === TEST.headphones[n].quietest).length, trials: answers.length };
}

function message(answers) {
  const body = { participant: state.participant, answers, finished: state.finished };
  if (state.questionnaire) body.questionnaire = state.questionnaire;
  // Who fails may put headphones on and check again: only what it ended with is told.
  if (state.step >= FIRST_QUESTION && headphoneResult()) body.headphones = headphoneResult();
  return body;
}

async function post(path, body) {
  const reply = await fetch(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
  if (!reply.ok) throw Object.assign(new Error(`status ${reply.status}`), { status: reply.status });
  return reply.json();
}

// `server`: null while unknown, true, or false for none or lost.
let sending = false, retry = null, server = null;
const waiting = () => Object.values(state.answers).filter(a => !state.kept.includes(a.question));
const told = () => ["questionnaire", "headphones", "finished"].every(f => !message([])[f] || state.told[f]);

async function send() {
  if (sending) return;
  sending = true;
  clearTimeout(retry);
  try {
    if (!state.participant) {
      const reply = await post("api/participants", state.sheet === null ? {} : { sheet: state.sheet });
      state.participant = reply.participant;
      if (state.sheet === null) state.sheet = reply.sheet;
      save();
    }
    if (waiting().length || !told()) {
      const body = message(waiting());
      const reply = await post("api/answers", body);
      state.kept = reply.kept;
      for (const field of ["questionnaire", "headphones", "finished"]) if (body[field]) state.told[field] = true;
      save();
    }
    server = true;
  } catch {
    server = false;
    retry = setTimeout(send, RETRY_MS);
  }
  sending = false;
  connection();
  if (server && (waiting().length || !told())) send();
}

function connection() {
  const count = waiting().length;
  $("connection").textContent = server === false && state.sheet !== null && !state.finished && count
    ? `No connection: ${count} ${count === 1 ? "answer is" : "answers are"} kept in this browser and will be sent.` : "";
  $("page").dispatchEvent(new Event("connection"));
}

// Pages

// Ends what the page before listened to.
let leaving = new AbortController();

function leave() {
  leaving.abort();
  leaving = new AbortController();
  stopAll();
}

function show(...children) {
  $("page").replaceChildren(...children);
  $("page").focus({ preventScroll: true });
  window.scrollTo(0, 0);
}

function primary(text, act) {
  return el("button", { type: "button", className: "primary", textContent: text, onclick: act });
}

function progress() {
  const total = TEST.sheets[0].length, at = questionNumber();
  $("progress").hidden = at === null;
  if (at === null) return;
  $("bar").max = total;
  $("bar").value = at;
  $("place").textContent = `Question ${Math.min(at + 1, total)} of ${total}`;
}

// Steps: 0 welcome, 1 questionnaire, 2 headphones, 3... questions; each criterion is explained first.
const FIRST_QUESTION = 3;

function questionNumber() {
  return state.step >= FIRST_QUESTION && !state.finished ? state.step - FIRST_QUESTION : null;
}

function go(step) {
  state.step = step;
  if (step === 2 && !TEST.headphones.length) state.step = FIRST_QUESTION;
  if (state.step >= FIRST_QUESTION && state.sheet === null) {
    state.sheet = Math.floor(Math.random() * TEST.sheets.length);  // no server has given one
  }
  if (state.step >= FIRST_QUESTION && state.step - FIRST_QUESTION >= TEST.sheets[0].length) state.finished = true;
  save();
  send();
  render();
}

function render() {
  leave();
  progress();
  const page = state.finished ? thanks : [welcome, questionnaire, headphones][state.step] || questionPage;
  page();
}

function welcome() {
  const count = TEST.sheets[0].length, minutes = Math.max(1, Math.round(count * 0.5));
  const contact = TEST.contact ? [el("p", { className: "soft", textContent: `Questions: ${TEST.contact}` })] : [];
  show(el("h2", { textContent: "Welcome" }),
    el("p", { textContent: `You will hear pairs of short clips of singing and pick one of each pair: ${count} questions, about ${minutes} minutes. Please use headphones, in a quiet place.` }),
    el("p", { textContent: "You can stop at any time and go on later in this browser: your answers are kept in it." }),
    el("p", { className: "soft", textContent: "Stored are your answers, when each was given, how long it took and how often you played its clips, the result of a check of headphones, and what you say in four questions about yourself; no name and no address. By beginning you agree to that." }),
    ...contact,
    el("div", { className: "buttons" }, primary("Begin", () => go(1))));
}

function questionnaire() {
  const form = el("form", {});
  for (const [name, label, options] of FIELDS) {
    const field = options
      ? el("select", { name, required: true }, el("option", { value: "", textContent: "Please choose" }), ...options.map(([value, text]) => el("option", { value, textContent: text })))
      : el("input", { type: "text", name, required: true, maxLength: 60, autocomplete: "off" });
    form.append(el("label", { className: "field" }, label, field));
  }
  form.append(el("div", { className: "buttons" }, el("button", { className: "primary", textContent: "Continue" })));
  form.addEventListener("submit", event => {
    event.preventDefault();
    const values = Object.fromEntries([...new FormData(form)].map(([k, v]) => [k, v.trim()]));
    if (Object.values(values).some(v => !v)) { form.elements.language.value = ""; form.reportValidity(); return; }
    state.questionnaire = values;
    go(2);
  });
  show(el("h2", { textContent: "About you" }), form);
}

function headphones() {
  const number = state.headphones.answers.length, trial = TEST.headphones[number];
  if (!trial) {
    const { right, trials } = headphoneResult();
    const good = right >= Math.ceil(trials * 5 / 6);
    show(el("h2", { textContent: good ? "Headphones: good" : "These do not seem to be headphones" }),
      el("p", { textContent: good ? "From now on, leave the volume as it is." : "If you have headphones, please put them on and check again. You may go on without." }),
      el("div", { className: "buttons" }, primary("Continue", () => go(FIRST_QUESTION)),
        ...(good ? [] : [el("button", { type: "button", textContent: "Check again", onclick: () => { state.headphones.answers = []; save(); render(); } })])));
    return;
  }
  const next = primary("Next", () => {
    state.headphones.answers.push(Number(form.elements.tone.value));
    save();
    render();
  });
  next.disabled = true;
  const form = el("form", {}, choices("Which tone is the quietest?", "tone", [["0", "First"], ["1", "Second"], ["2", "Third"]]));
  form.addEventListener("change", () => { next.disabled = false; });
  form.addEventListener("submit", event => event.preventDefault());
  const live = liveLine("Listen, then choose.");
  const button = clipButton(live, "Play the three tones", `sound ${number + 1} of ${TEST.headphones.length}`, trial.clip, () => {}, true);
  button.addEventListener("click", () => { enable(form, true); live.say("You can choose now."); });
  enable(form, false);
  show(el("h2", { textContent: "Headphone check" }),
    el("p", { textContent: "Set a comfortable volume. You hear three tones: which is the quietest?" }),
    el("div", { className: "clips" }, button), live.line, form, el("div", { className: "buttons" }, next));
}

function choices(legend, name, options) {
  return el("fieldset", {}, el("legend", { textContent: legend }), el("div", { className: "choices" },
    ...options.map(([value, text]) => el("label", {}, el("input", { type: "radio", name, value }), text))));
}

function enable(form, on) {
  for (const input of form.elements) if (input.type === "radio") input.disabled = !on;
}

function presented(number) {
  const { question, swapped } = TEST.sheets[state.sheet][number];
  const asked = TEST.questions[question];
  return { question, criterion: TEST.criteria.find(c => c.name === asked.criterion), reference: asked.reference,
    clips: swapped ? [...asked.clips].reverse() : asked.clips };
}

let explained = null;

function questionPage() {
  const number = questionNumber(), asked = presented(number), criterion = asked.criterion;
  const needed = new Set();
  for (let n = number; n < Math.min(number + 1 + AHEAD, TEST.sheets[0].length); n++) {
    const coming = presented(n);
    for (const file of [coming.reference, ...coming.clips]) needed.add(file);
  }
  forgetAllBut(needed);
  needed.forEach(sound);
  const before = number > 0 ? presented(number - 1).criterion.name : null;
  if (before !== criterion.name && explained !== criterion.name) {
    show(el("p", { className: "soft", textContent: `Part ${partOf(number)} of ${TEST.criteria.length}` }),
      el("h2", { textContent: criterion.question }), el("p", { textContent: criterion.explanation }),
      el("div", { className: "buttons" }, primary("Start this part", () => { explained = criterion.name; render(); })));
    return;
  }
  ask(asked);
}

function partOf(number) {
  const names = [];
  for (let n = 0; n <= number; n++) {
    const name = presented(n).criterion.name;
    if (!names.includes(name)) names.push(name);
  }
  return names.length;
}

function ask(asked) {
  const began = performance.now(), heard = { a: false, b: false }, live = liveLine("Listen to both clips, then choose.");
  const options = [["a", "Clip A"], ...(TEST.ties ? [["none", "No difference"]] : []), ["b", "Clip B"]];
  const form = el("form", {}, choices("Your choice", "choice", options));
  const next = primary("Next", answer);
  next.disabled = true;
  enable(form, false);
  form.addEventListener("submit", event => event.preventDefault());
  form.addEventListener("change", () => { next.disabled = false; });
  const ready = side => {
    heard[side] = true;
    if (heard.a && heard.b) { enable(form, true); live.say("You can choose now."); }
  };
  const what = asked.criterion.reference === "mixture" ? "the whole song" : "the singer alone";
  const buttons = {
    reference: clipButton(live, "Reference", what, asked.reference, () => {}, true),
    a: clipButton(live, "Clip A", "", asked.clips[0], () => ready("a")),
    b: clipButton(live, "Clip B", "", asked.clips[1], () => ready("b")),
  };

  function answer() {
    const chosen = form.elements.choice.value;
    if (!chosen) return;
    const plays = Object.fromEntries(Object.entries(buttons).map(([name, button]) => [name, button.plays]));
    state.answers[asked.question] = { question: asked.question, choice: chosen,
      seconds: Math.round(performance.now() - began) / 1000, plays };
    go(state.step + 1);
  }

  function onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const key = event.key.toLowerCase(), play = { a: "a", b: "b", r: "reference" }[key];
    const choice = { 1: "a", 2: "b", 0: "none" }[key];
    if (play) buttons[play].click();
    else if (key === "s" || key === "escape") stopAll();
    else if (choice) {
      const input = [...form.elements].find(i => i.value === choice);
      if (input && !input.disabled) { input.checked = true; input.focus(); next.disabled = false; }
    } else if (key === "enter" && event.target.tagName !== "BUTTON" && !next.disabled) answer();
    else return;
    event.preventDefault();
  }
  // On the page, not the document: single keys are for what has the focus (WCAG 2.1.4).
  $("page").addEventListener("keydown", onKey, { signal: leaving.signal });

  const key = name => el("kbd", { textContent: name });
  show(el("h2", { textContent: asked.criterion.question }),
    el("p", { className: "soft", textContent: "You may listen to each clip as often as you like." }),
    el("div", { className: "clips" }, buttons.reference, buttons.a, buttons.b), live.line, form,
    el("div", { className: "buttons" }, next),
    el("p", { className: "soft keys" }, "Keys: ", key("R"), " ", key("A"), " ", key("B"), " play, ", key("S"), " stops, ", key("1"), " chooses A, ", key("2"), " B, ",
      ...(TEST.ties ? [key("0"), " neither, "] : []), key("Enter"), " goes on."));
}

function thanks() {
  const status = el("p", { role: "status" });
  const again = el("button", { type: "button", textContent: "Try to send again", onclick: send });
  const download = el("button", { type: "button", textContent: "Download my answers", onclick: save_file });
  const next = el("button", { type: "button", textContent: "Somebody else takes the test here", onclick: forget });
  function update() {
    const all = server === true && !waiting().length && told();
    status.textContent = all ? "Your answers have arrived. You can close this page."
      : server === false ? "Your answers could not be sent. They are kept in this browser, and sending is tried again while this page is open. You can also download them and send the file to whoever invited you."
      : "Sending your answers…";
    again.hidden = download.hidden = all || server === null;
    next.hidden = !all;
    download.id = "download";
  }
  $("page").addEventListener("connection", update, { signal: leaving.signal });
  show(el("h2", { textContent: "Thank you!" }), status, el("div", { className: "buttons" }, download, again, next));
  update();
}

function forget() {
  localStorage.removeItem(KEY);
  location.reload();
}

function save_file() {
  const body = { ...message(Object.values(state.answers)), test: TEST.id, sheet: state.sheet };
  const url = URL.createObjectURL(new Blob([JSON.stringify(body, null, 1)], { type: "application/json" }));
  const link = el("a", { href: url, download: `answers-${TEST.id}-${Date.now()}.json` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

document.title = $("title").textContent = TEST.title;
render();
// Who only looks at the first page takes part in nothing yet.
if (state.step > 0) send();
