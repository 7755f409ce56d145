// Reports to choose from, as large as they fit. A click, Enter, space or the key with its number chooses one.
//
// Data: {question, options: [{text, tags, model, right}], chosen, open}. Until the choice is made (`open`), nothing in
// it tells which option is right: tags and model are empty and right is false for all.

const kept = new WeakMap();

export default function (component) {
  const { parentElement, data, setTriggerValue } = component;
  const list = parentElement.querySelector(".cards");
  let state = kept.get(list);
  if (!state) {
    state = { stop: new AbortController(), sizes: new ResizeObserver(() => fit(list)) };
    kept.set(list, state);
    document.addEventListener("keydown", (event) => key(list, state, event), { signal: state.stop.signal });
    state.sizes.observe(list);
    window.addEventListener("resize", () => fit(list), { signal: state.stop.signal });
  }
  state.choose = (place) => {
    if (!state.data.open || place < 0 || place >= state.data.options.length || state.sent === state.data.question) return;
    state.sent = state.data.question;
    setTriggerValue("choice", [state.data.question, place]);
  };
  if (state.data?.question !== data.question) {
    state.sent = null;
    list.replaceChildren(...data.options.map((option, place) => card(place, () => state.choose(place))));
  }
  state.data = data;
  list.classList.toggle("two", data.options.length > 5);
  data.options.forEach((option, place) => fill(list.children[place].firstChild, option, data, place));
  fit(list);
  return () => {
    if (list.isConnected) return; // also called for a run that was overtaken by the next one
    state.stop.abort();
    state.sizes.disconnect();
    kept.delete(list);
  };
}

function element(name, className) {
  const made = document.createElement(name);
  made.className = className;
  return made;
}

function card(place, choose) {
  const item = document.createElement("li");
  const button = element("button", "");
  button.type = "button";
  const number = element("span", "number");
  number.textContent = String((place + 1) % 10);
  const body = element("span", "body");
  body.append(element("span", "tags"), element("bdi", "text"));
  button.append(number, body);
  button.addEventListener("click", choose);
  item.append(button);
  return item;
}

function fill(button, option, data, place) {
  button.classList.toggle("true", option.right);
  button.classList.toggle("mine", data.chosen === place);
  button.setAttribute("aria-disabled", String(!data.open));
  const [tags, text] = button.querySelector(".body").children;
  text.textContent = option.text;
  tags.replaceChildren();
  for (const words of option.tags) {
    const tag = element("span", "tag");
    tag.textContent = words;
    tags.append(tag);
  }
  if (option.model) {
    const model = element("span", "model");
    model.textContent = option.model;
    tags.append(model);
  }
}

function key(list, state, event) {
  if (!list.isConnected || event.ctrlKey || event.metaKey || event.altKey || !/^[0-9]$/.test(event.key)) return;
  if (event.composedPath()[0].closest?.("input, textarea, select, [contenteditable=true], [role=slider]")) return;
  state.choose(event.key === "0" ? 9 : Number(event.key) - 1);
}

// The largest letters with which every report is seen whole; with letters below 12.5 pixels the list would scroll.
function fit(list) {
  const root = parseFloat(getComputedStyle(document.documentElement).fontSize);
  list.classList.remove("long");
  for (let size = 1.5 * root; size >= 12.5; size -= 0.5) {
    list.style.fontSize = `${size}px`;
    if (list.scrollHeight <= list.clientHeight && list.scrollWidth <= list.clientWidth) return;
  }
  list.classList.add("long");
}
