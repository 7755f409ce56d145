// A row of thumbnails. Click, Enter or space chooses one; the arrow keys, Home and End move the focus.
//
// Data: {items: [{record, label, picture}], current}; `picture` is a data address or null. The row is only built anew
// when other records come, so a choice neither reloads anything nor moves the row.

export default function (component) {
  const { parentElement, data, setTriggerValue } = component;
  const strip = parentElement.querySelector(".strip");
  const names = JSON.stringify(data.items.map((item) => item.record));
  const other = strip.dataset.names !== names;
  if (other) {
    strip.dataset.names = names;
    strip.replaceChildren(...data.items.map(thumbnail));
    if (!data.items.length) strip.textContent = "No image matches.";
  }
  const held = parentElement.activeElement;
  for (const button of strip.children) {
    const chosen = button.dataset.record === data.current;
    if (chosen && button.getAttribute("aria-selected") !== "true") bringIntoSight(strip, button, other);
    button.setAttribute("aria-selected", String(chosen));
    button.tabIndex = chosen ? 0 : -1;
  }
  if (!strip.querySelector("[tabindex='0']") && strip.firstElementChild) strip.firstElementChild.tabIndex = 0;
  if (held && held.isConnected) held.focus({ preventScroll: true });

  strip.onclick = (event) => {
    const button = event.target.closest("button");
    if (button && button.getAttribute("aria-selected") !== "true") setTriggerValue("record", button.dataset.record);
  };
  strip.onkeydown = (event) => {
    const buttons = [...strip.children];
    const at = buttons.indexOf(event.target.closest("button"));
    const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: buttons.length - 1 }[event.key];
    if (to === undefined || at < 0) return;
    event.preventDefault();
    event.stopPropagation(); // the page's own arrow keys mean previous and next image
    buttons[Math.max(0, Math.min(to, buttons.length - 1))].focus();
  };
}

function thumbnail(item) {
  const button = document.createElement("button");
  button.type = "button";
  button.setAttribute("role", "option");
  button.dataset.record = item.record;
  button.title = `${item.record}: ${item.label}`;
  const frame = document.createElement("span");
  frame.className = "frame";
  if (item.picture) {
    const picture = document.createElement("img");
    picture.src = item.picture;
    picture.alt = "";
    picture.draggable = false;
    frame.append(picture);
  } else {
    button.classList.add("none");
    frame.textContent = "no image";
  }
  const label = document.createElement("span");
  label.className = "label";
  label.textContent = item.label;
  button.append(frame, label);
  return button;
}

// Scrolls the row only, never the page; a new row puts its choice in the middle.
function bringIntoSight(strip, button, middle) {
  const left = button.offsetLeft - strip.offsetLeft;
  const right = left + button.offsetWidth;
  if (middle) strip.scrollLeft = (left + right - strip.clientWidth) / 2;
  else if (left < strip.scrollLeft) strip.scrollLeft = left - 8;
  else if (right > strip.scrollLeft + strip.clientWidth) strip.scrollLeft = right - strip.clientWidth + 8;
}
