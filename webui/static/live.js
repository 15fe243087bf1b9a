// Pages that follow: the server sends the new HTML of #live whenever what it shows has changed.
(function () {
  "use strict";
  const live = document.getElementById("live");

  // Make `from` look like `to`, node by node. What stays the same stays there: focus, selection, scroll positions,
  // what somebody has typed, a click that has just begun. Children with an id or data-key are known by it.
  function morph(from, to) {
    for (const { name, value } of [...to.attributes]) {
      if (from.getAttribute(name) !== value) from.setAttribute(name, value);
    }
    for (const { name } of [...from.attributes]) {
      if (!to.hasAttribute(name) && name !== "open") from.removeAttribute(name);  // `open` of <details> is the reader's
    }
    morphChildren(from, to);
  }
  const keyOf = (node) => (node.nodeType === 1 && (node.id || node.dataset.key)) || "";
  function morphChildren(from, to) {
    const keyed = new Map();
    for (const node of from.childNodes) if (keyOf(node)) keyed.set(keyOf(node), node);
    let at = from.firstChild;
    for (const want of [...to.childNodes]) {
      const key = keyOf(want);
      let found = key ? keyed.get(key) : at;
      if (found && (found.nodeName !== want.nodeName || keyOf(found) !== key)) found = null;
      if (!found) {
        from.insertBefore(want, at);
        continue;
      }
      if (found === at) at = at.nextSibling;
      else from.insertBefore(found, at);
      if (found.nodeType === 1) morph(found, want);
      else if (found.data !== want.data) found.data = want.data;
    }
    while (at) {
      const next = at.nextSibling;
      at.remove();
      at = next;
    }
  }

  if (live && live.dataset.stream && !("ended" in live.dataset)) {
    const stale = document.getElementById("stale");
    let source = null;
    const follow = () => {
      source = new EventSource(live.dataset.stream);
      source.addEventListener("open", () => { stale.hidden = true; });
      source.addEventListener("html", (event) => {
        const page = document.createElement("template");
        page.innerHTML = event.data;
        morphChildren(live, page.content);
      });
      source.addEventListener("end", () => source.close());
      source.addEventListener("error", () => {
        stale.hidden = false;
        // A server that is down for longer, or answers something else, is not asked again by the browser.
        if (source.readyState === EventSource.CLOSED) window.setTimeout(follow, 5000);
      });
    };
    follow();
    window.addEventListener("pagehide", () => source.close());
    window.addEventListener("pageshow", (event) => { if (event.persisted) follow(); });
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
