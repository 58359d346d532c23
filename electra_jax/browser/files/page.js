// The page: what is typed is divided into tokens, the network computes, the result is shown. All text is set as text
// (textContent), so that nothing typed or named can become HTML.

import { logitsOf, open } from "./network.js";
import { logistic, rowOf, softmax, wordsOf } from "./rows.js";
import { characters, firstDifference, Tokenizer } from "./tokenizer.js";

const PAUSE = 150; // Milliseconds after the last key until the network computes.
const CHOSEN = 0.5; // Probability from which a word counts as replaced, and one of several classes as chosen.
const NAMED = 5; // Words that are named to screen readers, at most.

const byId = (id) => document.getElementById(id);

// An element with these attributes and children, elements or texts.
function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function percent(probability) {
  // Neither 0 % nor 100 %, which would be certainty.
  const share = 100 * probability;
  if (share < 1) return "under 1 %";
  return share > 99 ? "over 99 %" : `${Math.round(share)} %`;
}

function megabytes(bytes) {
  return bytes < 1e5 ? `${Math.ceil(bytes / 1e3)} kB` : `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`;
}

function count(number, name) {
  return `${number.toLocaleString("en")} ${name}${number === 1 ? "" : "s"}`;
}

// --- Results ----------------------------------------------------------------------------------------------------------

// Shows the words of a text, each a button with the probability that it was replaced. One tab stop; arrows move on.
function showWords(parts) {
  const text = element("p", { class: "sentence", role: "toolbar", "aria-label": "The words, with their probabilities" });
  const about = element("p", { class: "about" });
  const buttons = [];
  const select = (button, word) => {
    for (const each of buttons) each.tabIndex = each === button ? 0 : -1;
    const parts = word.pieces.map(({ probability }) => percent(probability)).join(", ");
    const several = word.pieces.length > 1 ? `, the largest of its ${word.pieces.length} pieces: ${parts}` : "";
    about.replaceChildren(element("b", {}, word.text), ` ${percent(word.probability)}${several}`);
  };
  for (const part of parts) {
    if (!part.isWord) {
      text.append(part.text);
      continue;
    }
    const isOut = part.probability >= CHOSEN;
    const label = `${part.text}, ${percent(part.probability)}`;
    const button = element("button", { type: "button", class: isOut ? "word out" : "word", "aria-label": label }, part.text);
    button.style.setProperty("--p", part.probability.toFixed(4));
    if (isOut) button.append(element("span", { class: "number", "aria-hidden": "true" }, percent(part.probability)));
    button.dataset.pieces = JSON.stringify(part.pieces);
    button.tabIndex = buttons.length ? -1 : 0;
    for (const event of ["pointerenter", "focus", "click"]) button.addEventListener(event, () => select(button, part));
    buttons.push(button);
    text.append(button);
  }
  text.addEventListener("keydown", (event) => {
    const last = buttons.length - 1;
    const here = buttons.indexOf(document.activeElement);
    const next = { ArrowRight: Math.min(here + 1, last), ArrowLeft: Math.max(here - 1, 0), Home: 0, End: last }[event.key];
    if (here < 0 || next === undefined) return;
    event.preventDefault();
    buttons[next].focus();
  });
  const words = parts.filter(({ isWord }) => isWord);
  const out = words.filter(({ probability }) => probability >= CHOSEN);
  const found = summary(words, out);
  about.append("Point at a word, tap it, or go through them with the arrow keys, to see its probability.");
  byId("result").replaceChildren(element("p", { class: "found" }, found), text, about, legend());
  const named = out.slice(0, NAMED).map((word) => `${word.text} ${percent(word.probability)}`);
  return [found, ...named].join(", ");
}

function summary(words, out) {
  const all = words.length === 1 ? "1 word" : `${words.length.toLocaleString("en")} words and marks`;
  if (out.length) return `${out.length} of ${all} ${out.length === 1 ? "looks" : "look"} out of place`;
  const first = words.reduce((best, each) => (each.probability > best.probability ? each : best));
  return `None of ${all} looks out of place; most likely “${first.text}”, ${percent(first.probability)}`;
}

function legend() {
  return element(
    "p", { class: "legend" }, "in place ", element("span", { class: "scale" }), " replaced, underlined from 50 %",
  );
}

// Shows classes with their probabilities, the most probable first. With `several`, those from 50 % are all chosen.
function showClasses(labels, probabilities, several) {
  const ranked = labels.map((label, number) => ({ label, probability: probabilities[number] }));
  ranked.sort((one, other) => other.probability - one.probability);
  const chosen = several ? ranked.filter(({ probability }) => probability >= CHOSEN) : ranked.slice(0, 1);
  const found = chosen.map(({ label }) => label).join(", ") || "none of the classes";
  const heading = element("p", { class: "label" }, found);
  if (!several) heading.append(element("small", {}, percent(chosen[0].probability)));
  const list = element("ol", { class: "classes" });
  for (const each of ranked) {
    const bar = element("span", { class: "bar", "aria-hidden": "true" });
    bar.style.setProperty("--p", each.probability.toFixed(4));
    const item = element(
      "li", chosen.includes(each) ? { class: "chosen" } : {}, element("span", {}, each.label), bar, element("b", {}, percent(each.probability)),
    );
    item.dataset.label = each.label;
    item.dataset.probability = String(each.probability);
    list.append(item);
  }
  byId("result").replaceChildren(heading, list);
  return chosen.length ? chosen.map(({ label, probability }) => `${label}, ${percent(probability)}`).join("; ") : found;
}

function showGrade(grade) {
  const shown = grade.toFixed(2);
  const heading = element("p", { class: "label" }, shown);
  heading.dataset.grade = String(grade);
  byId("result").replaceChildren(heading);
  return `Grade ${shown}`;
}

// --- The parts of the page --------------------------------------------------------------------------------------------

// Makes the fields for the texts; returns them.
function makeFields(facts) {
  return facts.texts.map(({ name, optional, example }, number) => {
    const id = `text-${number}`;
    const field = element("textarea", { id, rows: facts.texts.length > 1 ? "2" : "3", autocapitalize: "sentences", "aria-describedby": "hint" });
    field.value = example;
    field.required = !optional;
    const label = element("label", { for: id }, name);
    if (optional) label.append(element("small", {}, " (optional)"));
    byId("texts").append(label, field);
    return field;
  });
}

function showFacts(facts, milliseconds) {
  const rows = [
    ["Model", facts.name],
    ["Network", `${facts.precision}, ${megabytes(facts.sizes["model.onnx"])}`],
    ["Reads at once", count(facts.longest, "token")],
    ["Computed in", milliseconds === undefined ? "–" : `${Math.max(1, Math.round(milliseconds))} ms`],
    ["Runtime", `${facts.runtime}, ${megabytes(facts.runtime_bytes)}`],
  ];
  byId("facts").replaceChildren(
    ...rows.map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value))),
  );
}

function showProblem(message) {
  byId("loading").hidden = true;
  byId("problem").textContent = message;
  byId("problem").hidden = false;
}

function readable(error) {
  return error instanceof Error ? error.message : String(error);
}

async function jsonOf(name) {
  const response = await fetch(name, { cache: "no-cache" });
  if (!response.ok) throw new Error(`${name}: the server answers ${response.status} ${response.statusText}`);
  return response.json();
}

// --- What happens -----------------------------------------------------------------------------------------------------

// Computes and shows the result of the fields' texts; returns how long the network took, or undefined.
async function update(facts, tokenizer, session, fields) {
  const texts = fields.map((field) => field.value);
  while (texts.length > 1 && facts.texts[texts.length - 1].optional && !texts[texts.length - 1].trim()) texts.pop();
  const tokens = texts.map((text) => tokenizer.encode(text));
  const hint = byId("hint");
  if (tokens.some(({ ids }) => !ids.length)) {
    byId("result").replaceChildren();
    hint.textContent = fields.length > 1 ? "Type both texts." : "Type a text.";
    hint.hidden = false;
    byId("said").textContent = "";
    return undefined;
  }
  const row = rowOf(tokens, tokenizer, facts.longest);
  hint.textContent = `The model reads ${count(facts.longest, "token")} at once; ${row.leftOut.toLocaleString("en")} more were left out.`;
  hint.hidden = !row.leftOut;
  const started = performance.now();
  const logits = await logitsOf(session, row);
  const milliseconds = performance.now() - started;
  let said;
  switch (facts.task) {
    case "detect":
      said = showWords(wordsOf(characters(texts[0]), tokens[0], row.kept[0], logits, tokenizer));
      break;
    case "multilabel":
      said = showClasses(facts.labels, logits.map(logistic), true);
      break;
    case "regression":
      said = showGrade(logits[0]);
      break;
    default:
      said = showClasses(facts.labels, softmax(logits), false);
  }
  byId("said").textContent = said;
  return milliseconds;
}

async function main() {
  const facts = await jsonOf("page.json");
  document.title = `${facts.title} – ${facts.name}`;
  byId("title").textContent = facts.title;
  byId("lead").textContent = facts.lead;
  showFacts(facts);
  byId("state").textContent = `Loading the model, ${megabytes(facts.sizes["model.onnx"] + facts.runtime_bytes)}`;
  byId("progress").hidden = false;
  const tokenizer = new Tokenizer(await jsonOf("tokenizer.json"));
  const different = firstDifference(tokenizer, facts.checks);
  if (different) {
    throw new Error(
      `This browser divides the text “${different.text}” into other tokens than the model was trained with, so that its ` +
        "answers would be wrong. Try another browser, and report this.",
    );
  }
  const session = await open(facts.sizes, (share) => {
    byId("progress").value = share;
    if (share === 1) byId("state").textContent = "Starting the model";
  });
  const fields = makeFields(facts);
  byId("loading").hidden = true;
  byId("use").hidden = false;

  let running = false;
  let asked = false;
  let timer;
  const compute = async () => {
    asked = true;
    if (running) return;
    running = true;
    while (asked) {
      asked = false;
      document.body.dataset.state = "computing";
      try {
        const milliseconds = await update(facts, tokenizer, session, fields);
        showFacts(facts, milliseconds);
        byId("problem").hidden = true;
      } catch (error) {
        byId("result").replaceChildren();
        showProblem(`The network could not be computed: ${readable(error)}`);
      }
    }
    running = false;
    document.body.dataset.state = "ready";
  };
  for (const field of fields) {
    field.addEventListener("input", () => {
      document.body.dataset.state = "typed";
      clearTimeout(timer);
      timer = setTimeout(compute, PAUSE);
    });
  }
  await compute();
}

main().catch((error) => {
  document.body.dataset.state = "failed";
  showProblem(`The page cannot be used. ${readable(error)}`);
});
