// Pages that follow: the server sends the new HTML of #live whenever what it shows has changed.
(function () {
  "use strict";
  const live = document.getElementById("live");
  if (live && live.dataset.stream && !("ended" in live.dataset)) {
    const source = new EventSource(live.dataset.stream);
    source.addEventListener("html", (event) => {
      // Do not pull a form from under somebody's fingers.
      if (live.contains(document.activeElement) && document.activeElement !== document.body) return;
      live.innerHTML = event.data;
    });
    source.addEventListener("end", () => source.close());
    window.addEventListener("pagehide", () => source.close());
  }
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-confirm]");
    if (button && !window.confirm(button.dataset.confirm)) event.preventDefault();
  });
  document.addEventListener("change", (event) => {
    const name = event.target.dataset.all;
    if (name) document.querySelectorAll(`input[name="${name}"]`).forEach((box) => { box.checked = event.target.checked; });
  });
  document.querySelectorAll('input[name="at"], input[name="cron"]').forEach((field) => {
    field.addEventListener("input", () => {
      const radio = document.querySelector(`input[name="when"][value="${field.name}"]`);
      if (radio) radio.checked = true;
    });
  });
})();
