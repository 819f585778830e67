// Keys, touch, and answers that survive a lost server. Without this script the page is plain forms.
"use strict";

(() => {
  const RETRY = 2000; // Milliseconds between attempts to reach the server.
  const POLL = 5000; // Milliseconds between looks for new texts.
  const PAUSE = 250; // A key pressed twice by accident does not judge the next text.
  const KEPT = `textgym-feedback-${document.body.dataset.store}`; // Servers share a storage.

  let since = 0; // When the form appeared.
  let hidden = 0; // Milliseconds since then in which nobody saw it.
  let hiddenAt = null;
  let busy = false;
  let brush = 1;
  let polling = null;

  const $ = (selector) => document.querySelector(selector);
  const all = (selector) => [...document.querySelectorAll(selector)];

  // ---- Sending: an answer is kept in the browser until the server has confirmed it.

  const keep = (answer) => {
    try {
      if (answer) localStorage.setItem(KEPT, JSON.stringify(answer));
      else localStorage.removeItem(KEPT);
    } catch {
      // Private windows may refuse; the answer is still in memory.
    }
  };

  const kept = () => {
    try {
      return JSON.parse(localStorage.getItem(KEPT));
    } catch {
      return null;
    }
  };

  const notice = (text) => {
    const place = $("#notice");
    place.textContent = text;
    place.hidden = !text;
  };

  const pause = (time) => new Promise((done) => setTimeout(done, time));

  // Ask until the server answers. Answers are idempotent, so one that arrived is not stored twice.
  const ask = async (address, options) => {
    let lost = false;
    for (;;) {
      try {
        const reply = await fetch(address, { ...options, credentials: "same-origin" });
        if (reply.status < 500) {
          const page = await reply.text();
          if (lost) {
            notice(document.body.dataset.back);
            setTimeout(() => notice(""), 3000);
          }
          return page;
        }
      } catch {
        // No connection.
      }
      lost = true;
      notice(document.body.dataset.lost);
      await pause(RETRY);
    }
  };

  const send = async (answer) => {
    busy = true;
    document.body.classList.add("busy");
    keep(answer);
    const page = await ask(answer.address, {
      method: "POST",
      body: new URLSearchParams(answer.fields),
    });
    keep(null);
    document.body.classList.remove("busy");
    busy = false;
    show(page);
  };

  const show = (page) => {
    const next = new DOMParser().parseFromString(page, "text/html");
    if (!next.querySelector("main")) {
      notice(page.slice(0, 300)); // A refusal in plain text; what was written is still here.
      return;
    }
    for (const place of ["main", "#progress", "#footer"]) {
      const [old, other] = [$(place), next.querySelector(place)];
      if (old && other) old.replaceWith(document.adoptNode(other));
    }
    window.scrollTo(0, 0);
    begin();
  };

  const load = async () => show(await ask("/", {}));

  // ---- A new form.

  const begin = () => {
    since = performance.now();
    hidden = 0;
    hiddenAt = document.hidden ? since : null;
    clearTimeout(polling);
    if ($("[data-wait]")) polling = setTimeout(() => !busy && load(), POLL);
    document.body.classList.remove("differences");
    const differences = $("#differences");
    if (differences) {
      differences.hidden = false;
      differences.setAttribute("aria-pressed", "false");
    }
    const brushes = $(".brushes");
    if (brushes) {
      brushes.hidden = false;
      choose(1);
    }
  };

  const seconds = () => {
    const away = hidden + (hiddenAt === null ? 0 : performance.now() - hiddenAt);
    return Math.max(0, (performance.now() - since - away) / 1000).toFixed(2);
  };

  document.addEventListener("visibilitychange", () => {
    if (document.hidden) hiddenAt = performance.now();
    else if (hiddenAt !== null) {
      hidden += performance.now() - hiddenAt;
      hiddenAt = null;
    }
  });

  document.addEventListener("submit", (event) => {
    const form = event.target;
    const address = new URL(form.action).pathname;
    if (!["/judge", "/undo"].includes(address)) return;
    event.preventDefault();
    if (busy) return;
    if (form.elements.spans) form.elements.spans.value = JSON.stringify(spans());
    const fields = [...new FormData(form, event.submitter)];
    send({ address, fields: [...fields, ["seconds", seconds()]] });
  });

  // ---- Parts of a text that are good or bad.

  const words = () => all(".words span[data-start]");

  const choose = (sign) => {
    brush = sign;
    for (const button of all("[data-brush]")) {
      button.setAttribute("aria-pressed", String(Number(button.dataset.brush) === sign));
    }
  };

  const mark = (parts, sign) => {
    for (const part of parts) {
      if (sign) part.dataset.sign = sign;
      else delete part.dataset.sign;
    }
    // Spaces between two words with the same mark belong to them.
    const every = words();
    every.forEach((part, place) => {
      if (!part.classList.contains("space")) return;
      const [before, after] = [every[place - 1]?.dataset.sign, every[place + 1]?.dataset.sign];
      if (before && before === after) part.dataset.sign = before;
      else delete part.dataset.sign;
    });
  };

  const selected = () => {
    const selection = getSelection();
    if (!selection.rangeCount || selection.isCollapsed) return [];
    const range = selection.getRangeAt(0);
    // A range that only touches the border of a word does not include it.
    return words().filter((part) => {
      const text = document.createRange();
      text.selectNodeContents(part);
      return (
        range.compareBoundaryPoints(Range.START_TO_END, text) > 0 &&
        range.compareBoundaryPoints(Range.END_TO_START, text) < 0
      );
    });
  };

  const spans = () => {
    const found = [];
    for (const part of words()) {
      const sign = Number(part.dataset.sign || 0);
      const [start, end] = [Number(part.dataset.start), Number(part.dataset.end)];
      const last = found.at(-1);
      if (!sign) continue;
      if (last && last[1] === start && last[2] === sign) last[1] = end;
      else found.push([start, end, sign]);
    }
    return found;
  };

  // A brush marks what is selected, and then the words that are tapped.
  document.addEventListener("pointerdown", (event) => {
    if (event.target.closest("[data-brush]")) event.preventDefault();
  });
  document.addEventListener("mousedown", (event) => {
    if (event.target.closest("[data-brush]")) event.preventDefault(); // The selection stays.
  });

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button?.dataset.brush) {
      const sign = Number(button.dataset.brush);
      choose(sign);
      mark(selected(), sign);
      getSelection().removeAllRanges();
      return;
    }
    if (button?.id === "differences") {
      const on = document.body.classList.toggle("differences");
      button.setAttribute("aria-pressed", String(on));
      return;
    }
    const word = event.target.closest(".words span[data-start]");
    if (word && getSelection().isCollapsed) {
      mark([word], Number(word.dataset.sign || 0) === brush ? 0 : brush);
    }
  });

  // ---- Keys.

  const rate = (value) => {
    const aspects = all(".rating");
    const open = aspects.find((aspect) => !aspect.querySelector("input:checked"));
    const focused = document.activeElement?.closest?.(".rating");
    const aspect = focused || open || aspects.at(-1);
    const input = aspect.querySelector(`input[value="${value}"]`);
    input.checked = true;
    const next = aspects.find((other) => !other.querySelector("input:checked"));
    (next || aspect).querySelector("input:checked, input").focus();
  };

  const improve = (side) => {
    const details = $(`.card[data-side="${side}"] details`);
    if (!details) return;
    details.open = true;
    const area = details.querySelector("textarea");
    area.focus();
    area.setSelectionRange(area.value.length, area.value.length);
  };

  document.addEventListener("keydown", (event) => {
    const area = event.target.closest?.("textarea");
    if (area) {
      if (event.key === "Escape") area.blur();
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
        event.preventDefault();
        (area.closest("details") || area.form).querySelector("button").click();
      }
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || busy) return;
    if (event.target.matches?.("input:not([type=radio])")) return;
    if (event.key === "Enter" && event.target.closest?.("button, a, summary")) return;
    if (performance.now() - since < PAUSE) return;
    // The letter on the key, for input methods and keyboards of other scripts.
    const code = /^(?:Key|Digit)(.)$/.exec(event.code)?.[1];
    const keys = [event.key.length === 1 ? event.key.toLowerCase() : event.key, code?.toLowerCase()];
    const pressed = (key) => keys[0] === key || (!/^[\x20-\x7e]$/.test(keys[0]) && keys[1] === key);
    if (pressed("e") && $(".card details")) {
      event.preventDefault();
      improve(event.shiftKey || $('.card[data-side="1"]:hover') ? 1 : 0);
      return;
    }
    if ($(".rating")) {
      const value = ["1", "2", "3", "4", "5"].find(pressed);
      if (value) {
        event.preventDefault();
        rate(value);
        return;
      }
    }
    const target = all("[data-key]").find((one) => one.dataset.key.split(" ").some(pressed));
    if (target && !target.hidden) {
      event.preventDefault();
      target.click();
    }
  });

  // ---- Start: an answer that was not confirmed before the page was closed is sent first.

  begin();
  const waiting = kept();
  if (waiting?.address && Array.isArray(waiting.fields)) send(waiting);
})();
