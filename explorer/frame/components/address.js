// Copies the address of the page, and keeps what the page writes there by itself out of the browser's history.
//
// After a change of page the values of the session are written back into the address. As an entry of its own, the first
// press of Back would lead to the same page without them. So until the reader has pressed anything on a page, an address
// of the same page takes the place of the last one.

const SHOWN = 2000; // milliseconds for which "Copied" stands

export default function (component) {
  const button = component.parentElement.querySelector("button");
  const words = button.querySelector("b");
  button.onclick = async () => {
    words.textContent = (await copied(location.href)) ? "Copied" : "Copy it from the address bar";
    clearTimeout(button.back);
    button.back = setTimeout(() => (words.textContent = "Copy link"), SHOWN);
  };
  keepOwnWritesOut();
}

async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false; // no permission, or the page came over plain http from another machine
  }
}

function keepOwnWritesOut() {
  if (window.linkageHistory) return;
  let pressed = false;
  for (const type of ["pointerdown", "keydown"]) addEventListener(type, () => (pressed = true), { capture: true, passive: true });
  const push = history.pushState;
  history.pushState = function (state, title, url) {
    const other = new URL(url, location.href).pathname !== location.pathname;
    if (!other && !pressed) return history.replaceState(state, title, url);
    if (other) pressed = false;
    return push.call(history, state, title, url);
  };
  window.linkageHistory = true;
}
