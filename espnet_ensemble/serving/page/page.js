// The page: it takes a recording, asks the API of the server that it came from, and shows
// what was said.

const $ = (id) => document.getElementById(id);
const audio = $("audio");
let limits;
let stopAt = null;  // the end of the word that is played
let recorder = null;
let round = 0;  // what an earlier recording brings is not shown

// A new element; what it holds is text, never HTML.
function make(tag, className, text = "") {
  const element = document.createElement(tag);
  element.className = className;
  element.textContent = text;
  return element;
}

function say(message) {
  $("message").textContent = message;
  $("message").hidden = !message;
}

async function ask(path, fields) {
  const form = new FormData();
  for (const [name, value] of fields) form.append(name, value);
  let response;
  try {
    response = await fetch(path, fields.length ? { method: "POST", body: form } : {});
  } catch {
    throw new Error("The server does not answer.");
  }
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error?.message ?? answer.status);
  return answer;
}

// ---- words

// For each word of one transcript, whether a longest common subsequence with another lacks it.
function missing(ours, theirs) {
  const length = Array.from({ length: ours.length + 1 }, () => new Uint32Array(theirs.length + 1));
  for (let i = ours.length - 1; i >= 0; i--)
    for (let j = theirs.length - 1; j >= 0; j--)
      length[i][j] = ours[i].word === theirs[j].word
        ? length[i + 1][j + 1] + 1
        : Math.max(length[i + 1][j], length[i][j + 1]);
  const lacks = ours.map(() => true);
  for (let i = 0, j = 0; i < ours.length && j < theirs.length;) {
    if (ours[i].word === theirs[j].word) { lacks[i] = false; i++; j++; }
    else if (length[i + 1][j] >= length[i][j + 1]) i++;
    else j++;
  }
  return lacks;
}

function play(word) {
  audio.currentTime = word.start;
  stopAt = word.end;
  audio.play();
}

function showWords(place, words) {
  place.replaceChildren();
  if (!words.length) place.append(make("span", "quiet", "No speech was found."));
  for (const word of words) {
    const button = make("button", "word", word.word);
    button.style.setProperty("--doubt", 1 - word.confidence);
    button.title = `${word.start.toFixed(2)} to ${word.end.toFixed(2)} s, `
      + `confidence ${Math.round(100 * word.confidence)} %`;
    button.onclick = () => play(word);
    Object.assign(button.dataset, { start: word.start, end: word.end });
    place.append(button, " ");
  }
}

function mark(place, lacks) {
  const buttons = place.querySelectorAll(".word");
  lacks.forEach((is, index) => { if (is) buttons[index].classList.add("differs"); });
}

// ---- results

async function transcribe(blob, name) {
  const mine = ++round;
  say("");
  $("results").replaceChildren();
  $("legend").hidden = true;
  if (blob.size > limits.megabytes * 1e6) {
    say(`${name} is larger than ${limits.megabytes} MB.`);
    return;
  }
  $("name").textContent = name;
  if (audio.src) URL.revokeObjectURL(audio.src);
  audio.src = URL.createObjectURL(blob);
  $("player").hidden = false;
  const chosen = [...document.querySelectorAll("#models input:checked")].map((box) => box.model);
  if (!chosen.length) { say("Choose a model."); return; }
  const found = await Promise.all(chosen.map((model) => transcribeWith(model, blob, name, mine)));
  if (mine !== round) return;
  const told = found.filter(Boolean);
  for (const one of told)
    for (const other of told)
      if (one !== other) mark(one.place, missing(one.words, other.words));
  $("legend").hidden = !told.length;
}

function fieldsOf(model, blob, name) {
  return [["model", model.id], ["file", blob, name], ["prompt", $("prompt").value]];
}

async function transcribeWith(model, blob, name, mine) {
  const card = make("article", "card");
  const place = make("p", "transcript quiet", "Transcribing …");
  card.append(make("h2", "", model.id), place);
  $("results").append(card);
  const fields = [...fieldsOf(model, blob, name), ["response_format", "verbose_json"],
    ["timestamp_granularities[]", "word"]];
  try {
    const { words, duration } = await ask("v1/audio/transcriptions", fields);
    if (mine !== round) return null;
    place.classList.remove("quiet");
    showWords(place, words);
    card.append(make("p", "quiet", `${duration.toFixed(1)} s`));
    if (model.upstreams.length > 1) card.append(contributionsButton(model, blob, name, words));
    return { place, words };
  } catch (error) {
    card.remove();
    if (mine === round) say(error.message);
    return null;
  }
}

function contributionsButton(model, blob, name, words) {
  const button = make("button", "contributions", "What does each upstream contribute?");
  button.onclick = async () => {
    button.disabled = true;
    try {
      const answer = await ask("v1/audio/contributions", fieldsOf(model, blob, name));
      button.replaceWith(contributions(answer, words));
    } catch (error) {
      button.disabled = false;
      say(error.message);
    }
  };
  return button;
}

function contributions(answer, words) {
  const list = make("div", "left-out");
  for (const without of answer.upstreams) {
    const lacks = missing(without.words, words);
    const lost = missing(words, without.words).filter(Boolean).length;
    const place = make("p", "transcript");
    showWords(place, without.words);
    mark(place, lacks);
    list.append(make("strong", "", `Without ${without.name}`),
      make("span", "quiet", ` ${lost} of ${words.length} words are lost`), place);
  }
  if (!answer.trained_without) list.append(make("p", "quiet",
    "This model was not trained to do without an upstream (member_dropout): this shows what "
    + "it relies on, not how good it would be had it been trained without."));
  return list;
}

// ---- playing

audio.ontimeupdate = () => {
  if (stopAt !== null && audio.currentTime >= stopAt) { audio.pause(); stopAt = null; }
  for (const word of document.querySelectorAll(".word[data-start]")) {
    const { start, end } = word.dataset;
    word.classList.toggle("now", audio.currentTime >= start && audio.currentTime < end);
  }
};

// ---- recordings

async function record() {
  if (recorder) { recorder.stop(); return; }
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ audio: true });
  } catch (error) {
    say(`The microphone cannot be used: ${error.message}`);
    return;
  }
  const parts = [];
  recorder = new MediaRecorder(stream);
  recorder.ondataavailable = (event) => parts.push(event.data);
  recorder.onstop = () => {
    const { mimeType } = recorder;
    recorder = null;
    stream.getTracks().forEach((track) => track.stop());
    $("record").classList.remove("on");
    $("record").textContent = "Record";
    transcribe(new Blob(parts, { type: mimeType }), "microphone");
  };
  recorder.start();
  $("record").classList.add("on");
  $("record").textContent = "Stop";
}

$("record").onclick = record;
if (!navigator.mediaDevices) {
  $("record").disabled = true;
  $("record").title = "Browsers give the microphone to https:// and http://localhost only.";
}
$("file").onchange = (event) => {
  const [file] = event.target.files;
  event.target.value = "";  // the same one may be chosen again
  if (file) transcribe(file, file.name);
};
document.ondragover = (event) => { event.preventDefault(); $("drop").classList.add("over"); };
document.ondragleave = () => $("drop").classList.remove("over");
document.ondrop = (event) => {
  event.preventDefault();
  $("drop").classList.remove("over");
  const [file] = event.dataTransfer.files;
  if (file) transcribe(file, file.name);
};

// ---- beginning

try {
  limits = (await ask("health", [])).limits;
  $("limits").textContent = `, up to ${limits.minutes} minutes and ${limits.megabytes} MB`;
  const models = (await ask("v1/models", [])).data;
  for (const model of models) {
    const label = make("label", "");
    const box = Object.assign(document.createElement("input"), { type: "checkbox", checked: true, model });
    label.append(box, ` ${model.id}`);
    $("models").append(label);
  }
  $("models").hidden = models.length < 2;
} catch (error) {
  say(error.message);
}
