// The report as it is filed, in a frame that runs no script and reaches nothing. Data: {html, mark}.

export default function (component) {
  const { parentElement, data } = component;
  const paper = parentElement.querySelector(".paper");
  let frame = paper.querySelector("iframe");
  if (!frame) {
    frame = document.createElement("iframe");
    frame.setAttribute("sandbox", "");
    frame.title = "The report";
    paper.append(frame);
  }
  if (frame.dataset.mark === data.mark) return; // its place is kept while something else changes
  frame.dataset.mark = data.mark;
  frame.srcdoc = data.html;
}
