// What pages of the dashboard do beside being shown: they stay fresh, ask before what cannot be undone, and offer the browser's
// time zone. Every page works without this file.
"use strict";

(() => {
  const LIVE = "slmgate-live";
  let timer = 0;
  let asking = false;

  const main = () => document.getElementById("main");
  const seconds = () => Number(main()?.dataset.refresh || 0);

  const isLive = () => {
    try {
      return localStorage.getItem(LIVE) !== "off";
    } catch {
      return true;
    }
  };

  const setLive = (on) => {
    try {
      localStorage.setItem(LIVE, on ? "on" : "off");
    } catch {
      // a browser that keeps nothing: it is live until the next page
    }
  };

  // Where an element is found again on a page made anew: by its id, else by its place among its kind with the same address or name.
  const place = (element) => {
    if (!element || !main().contains(element)) return null;
    if (element.id) return { id: element.id };
    const what = element.getAttribute("href") ? `[href="${CSS.escape(element.getAttribute("href"))}"]` : "";
    const chosen = element.tagName.toLowerCase() + what;
    return { chosen, at: [...main().querySelectorAll(chosen)].indexOf(element) };
  };

  const found = (where) => {
    if (!where) return null;
    return where.id ? document.getElementById(where.id) : main().querySelectorAll(where.chosen)[where.at] || null;
  };

  // Somebody writes, chooses, or marks text: nothing is moved under his hands.
  const isBusy = () => {
    const active = document.activeElement;
    if (active && main().contains(active) && active.matches("input, select, textarea")) return true;
    if (main().querySelector("details.own[open], dialog[open], [data-busy]")) return true;
    const marked = document.getSelection();
    return Boolean(marked && !marked.isCollapsed && main().contains(marked.anchorNode));
  };

  const swap = (fresh) => {
    const old = main();
    const focus = place(document.activeElement);
    const open = [...old.querySelectorAll("details")].map((each) => each.open);
    const scrolled = [...old.querySelectorAll(".scroll")].map((each) => [each.scrollLeft, each.scrollTop]);
    old.replaceChildren(...fresh.childNodes);
    [...old.querySelectorAll("details")].forEach((each, at) => { each.open = open[at] ?? each.open; });
    [...old.querySelectorAll(".scroll")].forEach((each, at) => { [each.scrollLeft, each.scrollTop] = scrolled[at] ?? [0, 0]; });
    found(focus)?.focus({ preventScroll: true });
    arrange();
  };

  const refresh = async () => {
    if (asking || document.hidden || !isLive() || !seconds()) return;
    if (isBusy()) return plan();
    asking = true;
    try {
      const answer = await fetch(location.href, { headers: { accept: "text/html" }, cache: "no-store" });
      if (answer.redirected && new URL(answer.url).pathname === "/login") return location.reload();
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("main");
      if (answer.ok && fresh && !isBusy()) swap(fresh);
      else if (!answer.ok) stale();
    } catch {
      stale();
    } finally {
      asking = false;
      plan();
    }
  };

  const stale = () => {
    const said = document.querySelector("[data-fresh]");
    if (said && !said.dataset.stale) {
      said.dataset.stale = "yes";
      said.textContent += " The gate does not answer; this is old.";
    }
  };

  const plan = () => {
    clearTimeout(timer);
    if (seconds() && isLive() && !document.hidden) timer = setTimeout(refresh, seconds() * 1000);
  };

  // What only makes sense with this file.
  const arrange = () => {
    const live = document.querySelector("[data-live]");
    if (live) {
      live.hidden = false;
      live.setAttribute("aria-pressed", String(isLive()));
      live.textContent = isLive() ? "Live: on" : "Live: off";
    }
    const zones = document.getElementById("zones");
    const own = Intl.DateTimeFormat().resolvedOptions().timeZone;
    if (zones && own && !zones.querySelector(`option[value="${CSS.escape(own)}"]`)) zones.append(new Option("this browser's", own));
  };

  document.addEventListener("click", (event) => {
    if (!event.target.closest("[data-live]")) return;
    setLive(!isLive());
    arrange();
    if (isLive()) refresh();
  });

  document.addEventListener("submit", (event) => {
    const asks = event.target.dataset.confirm;
    if (asks && !confirm(asks)) event.preventDefault();
  });

  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") document.querySelector("details.own[open]")?.removeAttribute("open");
  });

  document.addEventListener("visibilitychange", () => {
    if (document.hidden) clearTimeout(timer);
    else refresh();
  });

  arrange();
  plan();
})();
