"use strict";

const at = (id) => document.getElementById(id);
let shown = { characters: [], entities: [] }; // the text as code points, which offsets count; its entities
let points = []; // of /model
let hues = new Map(); // by type
let latest = 0; // number of the latest request: answers to older ones are thrown away

function hueOf(type) {
  if (!hues.has(type)) hues.set(type, Math.round(205 + hues.size * 137.5) % 360);
  return hues.get(type);
}

function marked(type, content, title = "") {
  const mark = document.createElement("mark");
  mark.style.setProperty("--h", hueOf(type));
  mark.append(content);
  mark.title = title;
  return mark;
}

function draw() {
  const least = Number(at("least").value);
  at("least-value").textContent = least.toFixed(2);
  const kept = shown.entities.filter((entity) => entity.confidence >= least);
  const counts = new Map();
  const pieces = [];
  let end = 0;
  for (const entity of kept) {
    counts.set(entity.type, (counts.get(entity.type) || 0) + 1);
    pieces.push(shown.characters.slice(end, entity.start).join(""));
    const percent = `${(100 * entity.confidence).toFixed(1)}%`;
    const mark = marked(entity.type, entity.text, `${entity.type}, confidence ${percent}, characters ${entity.start} to ${entity.end}`);
    const name = document.createElement("small");
    name.textContent = entity.type;
    mark.append(name);
    pieces.push(mark);
    end = entity.end;
  }
  pieces.push(shown.characters.slice(end).join(""));
  at("marked").replaceChildren(...pieces);
  at("types").replaceChildren(...[...counts].map(([type, count]) => marked(type, `${type} ${count}`)));
  drawExpected(least);
  const hidden = shown.entities.length - kept.length;
  say(`${kept.length} ${kept.length === 1 ? "entity" : "entities"}${hidden ? `, ${hidden} below the confidence` : ""}`);
}

function drawExpected(least) {
  const point = points.find((one) => one.name === at("point").value);
  let place = -1;
  if (point) point.confidences.forEach((confidence, i) => { if (confidence <= least + 1e-9) place = i; });
  at("expected").textContent = place < 0 ? "" :
    `On the validation data of the training, entities of at least ${point.confidences[place]} had precision ` +
    `${point.precision[place].toFixed(3)} and recall ${point.recall[place].toFixed(3)}.`;
}

function say(message, isError = false) {
  at("status").textContent = message;
  at("status").className = isError ? "error" : "";
}

async function tag() {
  const text = at("text").value;
  const number = ++latest;
  at("tag").disabled = true;
  say("…");
  try {
    const body = { texts: [text], operating_point: at("point").value || "default" };
    const response = await fetch("tag", {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
    });
    const answer = await response.json().catch(() => ({ error: `the service answered ${response.status}` }));
    if (number !== latest) return;
    if (!response.ok) return say(answer.error, true);
    shown = { characters: Array.from(text), entities: answer.entities[0] };
    at("result").hidden = false;
    draw();
  } catch (error) {
    if (number === latest) say(`no answer: ${error.message}`, true);
  } finally {
    if (number === latest) at("tag").disabled = false;
  }
}

async function start() {
  const model = await (await fetch("model")).json();
  at("model").textContent = model.model;
  model.types.forEach(hueOf);
  points = model.operating_points;
  at("point").replaceChildren(...points.map((point) => new Option(point.name)));
  at("point-row").hidden = points.length < 2;
}

at("form").addEventListener("submit", (event) => { event.preventDefault(); tag(); });
at("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); tag(); }
});
at("point").addEventListener("change", () => { if (!at("result").hidden) tag(); });
at("least").addEventListener("input", draw);
start().catch((error) => say(`no answer: ${error.message}`, true));
