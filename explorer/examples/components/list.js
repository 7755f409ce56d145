// Reports by rank. A card keeps its element for as long as its report is listed, so that when the order changes the
// cards are seen to move from where they were to where they are now.
//
// Data: {image, caption, claim, head: [before, large, after], second, hidden, rows, scale: [low, high], zero, cards:
// [{key, rank, number, share, true, tags, gap, text, absent}]}, or {caption, problem: [what, remedy], rows} where there
// is no list. Every text becomes a text node. Trigger "told": the reader asks for the hidden true report.

const MOVE = { duration: 450, easing: "cubic-bezier(0.3, 0, 0.2, 1)" };
const still = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

export default function (component) {
  const { parentElement, data, setTriggerValue } = component;
  const list = parentElement.querySelector(".list");
  const part = (name) => list.querySelector(`.${name}`);
  list.style.setProperty("--rows", data.rows);
  part("caption").textContent = data.caption;
  part("caption").title = data.caption;
  part("claim").textContent = data.claim ?? "";
  part("second").textContent = data.second ?? "";
  head(part("head"), data, () => setTriggerValue("told", true));
  const none = part("none");
  none.hidden = !data.problem;
  none.replaceChildren(...(data.problem ?? []).filter(Boolean).map(paragraph));
  part("cards").hidden = part("scale").hidden = !!data.problem;
  if (data.problem) return;
  const ends = part("scale").children;
  ends[0].textContent = data.scale[0];
  ends[2].textContent = data.scale[1];
  arrange(part("cards"), data);
}

function head(place, data, ask) {
  place.replaceChildren();
  if (!data.head) return;
  const [before, large, after] = data.head;
  const together = make("span");
  together.append(make("b", "", large), after);
  place.append(before, together);
  if (!data.hidden) return;
  const button = make("button", "", "Show it");
  button.type = "button";
  button.onclick = ask;
  place.append(button);
}

function arrange(place, data) {
  const same = place.dataset.image === data.image; // else nothing has moved: these are other reports
  place.dataset.image = data.image;
  const top = () => place.getBoundingClientRect().top - place.scrollTop;
  const known = new Map([...place.children].map((item) => [item.dataset.key, item]));
  const from = new Map();
  for (const [key, item] of known) from.set(key, item.getBoundingClientRect().top - top());
  const items = data.cards.map((card) => fill(known.get(card.key) ?? blank(card.key), card, data.zero));
  place.replaceChildren(...items);
  if (!same) place.scrollTop = 0;
  if (!same || still()) return;
  for (const item of items) {
    const was = from.get(item.dataset.key);
    if (was === undefined) {
      item.animate([{ opacity: 0, transform: "translateX(1.2rem)" }, { opacity: 1, transform: "none" }], MOVE);
      continue;
    }
    const by = was - (item.getBoundingClientRect().top - top());
    if (Math.abs(by) > 1) item.animate([{ transform: `translateY(${by}px)` }, { transform: "none" }], MOVE);
  }
}

function blank(key) {
  const item = make("li");
  item.dataset.key = key;
  const card = make("div", "card");
  const body = make("div", "body");
  const row = make("div", "row");
  const bar = make("span", "bar");
  bar.append(make("span", "fill"), make("span", "zero"));
  row.append(bar, make("span", "number"));
  body.append(make("div", "tags"), make("div", "words"), row);
  card.append(make("span", "rank"), body);
  item.append(make("p", "gap"), card);
  item.querySelector(".number").title = "similarity (cosine)";
  return item;
}

function fill(item, card, zero) {
  const part = (name) => item.querySelector(`.${name}`);
  item.className = card.true ? "item true" : "item";
  part("gap").textContent = card.gap;
  part("rank").textContent = card.rank;
  part("number").textContent = card.number;
  part("fill").style.width = `${100 * card.share}%`;
  part("zero").hidden = zero === null;
  if (zero !== null) part("zero").style.left = `${100 * zero}%`;
  const tags = card.tags.map((tag) => make("span", "same", tag));
  if (card.true) tags.unshift(make("span", "tick", "✓ the true report"));
  part("tags").replaceChildren(...tags);
  const said = card.text === null ? `-${card.absent}` : `+${card.text}`;
  if (item.said !== said) part("words").replaceChildren(words(card)); // else a text that was opened stays open
  item.said = said;
  return item;
}

// A text that may need more than the lines it gets can be opened.
function words(card) {
  if (card.text === null) return make("p", "text absent", card.absent);
  const text = make("bdi", "", card.text);
  if (card.text.length <= 44) {
    const line = make("p", "text");
    line.append(text);
    return line;
  }
  const more = make("details");
  const summary = make("summary");
  const line = make("span", "text");
  line.append(text);
  summary.append(line);
  more.append(summary);
  return more;
}

// What stands between backticks is a command.
function paragraph(text) {
  const line = make("p");
  text.split("`").forEach((piece, at) => line.append(at % 2 ? make("code", "", piece) : piece));
  return line;
}

function make(kind, name = "", text = "") {
  const element = document.createElement(kind);
  if (name) element.className = name;
  if (text) element.textContent = text;
  return element;
}
