"use strict";
// Asks the gate under the key that is entered, and shows what it says. The key is kept in this variable and nowhere else.
let secret = "";
const by = (id) => document.getElementById(id);
const number = new Intl.NumberFormat("en");
const time = (text) => new Date(text).toISOString().slice(0, 16).replace("T", " ") + " UTC";

function make(name, text, attributes) {
  const element = document.createElement(name);
  if (text !== undefined && text !== null) element.textContent = text;
  for (const [key, value] of Object.entries(attributes || {})) element.setAttribute(key, value);
  return element;
}

async function ask(what, options) {
  let answer;
  try {
    answer = await fetch("/me/api/" + what, {
      ...options, headers: { authorization: "Bearer " + secret }, cache: "no-store", credentials: "omit",
    });
  } catch (failed) {
    throw new Error("The gate does not answer. Try again soon.");
  }
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) {
    const said = new Error((body.error && body.error.message) || "The gate answered " + answer.status + ".");
    said.status = answer.status;
    throw said;
  }
  return body;
}

function trouble(error) {
  by("trouble").textContent = error ? error.message : "";
  by("trouble").hidden = !error;
}

function money(cost) {
  return Object.entries(cost).map(([currency, amount]) => amount + " " + currency).join(", ") || "nothing";
}

function definitions(list, rows) {
  list.replaceChildren();
  for (const [name, value] of rows) list.append(make("dt", name), make("dd", value));
}

function table(element, head, rows, none) {
  const caption = element.querySelector("caption");
  element.replaceChildren(...(caption ? [caption] : []));
  const texts = head.map((name) => name.startsWith("'"));
  const line = make("tr");
  head.forEach((name, at) => line.append(make("th", name.replace(/^'/, ""), { scope: "col", ...(texts[at] && { class: "text" }) })));
  const top = make("thead");
  top.append(line);
  const body = make("tbody");
  for (const row of rows) {
    const one = make("tr");
    row.forEach((cell, at) => {
      const td = make("td", cell instanceof Node ? undefined : cell, texts[at] ? { class: "text" } : {});
      if (cell instanceof Node) td.append(cell);
      one.append(td);
    });
    body.append(one);
  }
  if (!rows.length) {
    const one = make("tr");
    one.append(make("td", none, { colspan: head.length }));
    body.append(one);
  }
  element.append(top, body);
}

function tile(title, sums) {
  const box = make("div", undefined, { class: "tile" });
  box.append(make("h3", title));
  const big = make("p", undefined, { class: "big" });
  big.textContent = number.format(sums.requests) + (sums.requests === 1 ? " request" : " requests");
  box.append(big);
  box.append(make("p", number.format(sums.prompt_tokens + sums.completion_tokens) + " tokens ("
    + number.format(sums.prompt_tokens) + " in, " + number.format(sums.completion_tokens) + " out)"));
  const wrong = [];
  if (sums.refused) wrong.push(number.format(sums.refused) + " refused");
  if (sums.errors) wrong.push(number.format(sums.errors) + " failed");
  if (wrong.length) box.append(make("p", wrong.join(", ")));
  if (Object.keys(sums.cost).length) box.append(make("p", money(sums.cost)));
  return box;
}

function bars(days) {
  const place = by("days");
  place.replaceChildren();
  if (days.length < 2) return;
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  const most = Math.max(...days.map((day) => day.prompt_tokens + day.completion_tokens), 1);
  const count = Number(days[days.length - 1].day.slice(8));
  const shown = "Tokens a day this month, the most " + number.format(most);
  svg.setAttribute("viewBox", "0 0 " + count * 10 + " 100");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", shown);
  for (const day of days) {
    const bar = document.createElementNS(space, "rect");
    const high = 96 * (day.prompt_tokens + day.completion_tokens) / most;
    const numbers = { x: (Number(day.day.slice(8)) - 1) * 10 + 1, y: 99 - high, width: 8, height: high };
    for (const [name, value] of Object.entries(numbers)) bar.setAttribute(name, value);
    const title = document.createElementNS(space, "title");
    title.textContent = day.day + ": " + number.format(day.prompt_tokens + day.completion_tokens) + " tokens";
    bar.append(title);
    svg.append(bar);
  }
  const ground = document.createElementNS(space, "line");
  for (const [name, value] of Object.entries({ x1: 0, x2: count * 10, y1: 99.5, y2: 99.5 })) ground.setAttribute(name, value);
  svg.append(ground);
  place.append(svg, make("p", shown + ".", { class: "hint" }));
}

function left(limit) {
  if (limit.left === null) return limit.any_left ? "some" : "nothing";
  return limit.unit === "cost" ? limit.left + " " + limit.currency : number.format(limit.left);
}

function used(limit) {
  if (limit.used === null) return make("span", "not told");
  const share = Number(limit.amount) ? Math.min(1, Number(limit.used) / Number(limit.amount)) : 1;
  const meter = make("meter", undefined, { min: 0, max: 1, low: 0.8, high: 0.95, optimum: 0, value: share });
  const words = Math.round(share * 100) + " %";
  meter.setAttribute("aria-label", words + " used");
  const both = make("span", words + " ");
  both.append(meter);
  return both;
}

const WHOSE = { you: "you", team: "your team", shared: "others too" };

function showMonth(month) {
  const place = by("month");
  const list = make("dl");
  const rows = [["Month", month.month], ["Your requests cost", money(month.own.cost)]];
  if (month.plan) {
    rows.push(["Plan", month.plan.name]);
    if (month.plan.included) {
      const after = month.plan.overage === "stop" ? "requests are refused until the next month" : "use is charged";
      rows.push(["Included", month.plan.included + ", for your whole team; beyond that, " + after]);
    }
  } else {
    rows.push(["Plan", "none: nothing is charged"]);
  }
  if (month.statement) {
    const all = month.statement;
    rows.push(["Your whole team until now", all.total + " " + all.currency + " for " + number.format(all.requests) + " requests"]);
  }
  definitions(list, rows);
  place.replaceChildren(list);
}

function showRotation(facts) {
  by("rotate").hidden = !facts.rotates;
  by("rotate-not").hidden = facts.rotates;
  by("rotate-not").textContent = facts.why_not;
  const choices = [["0s", "no time: it ends at once", 0], ["1h", "an hour", 3600], ["24h", "a day", 86400], ["7d", "a week", 604800]];
  const fit = choices.filter((choice) => choice[2] <= facts.overlap);
  by("overlap").replaceChildren(...fit.map(([value, text]) => make("option", text, { value })));
  if (fit.some((choice) => choice[0] === "24h")) by("overlap").value = "24h";
}

async function look() {
  const facts = await ask("key");
  const usage = await ask("usage");
  const limits = await ask("limits");
  const month = await ask("statement");
  const own = facts.secrets.find((one) => one.this);
  definitions(by("facts"), [
    ["Name", facts.name],
    ["Team", facts.team || "none"],
    ["Roles", facts.roles.join(", ") || "none"],
    ["Models", facts.models.join(", ") || "none"],
    ["Ends", facts.expires ? time(facts.expires) : "never"],
    ...(own && own.until ? [["This secret ends", time(own.until)]] : []),
  ]);
  by("sums").replaceChildren(tile("Today (UTC)", usage.today), tile("This month (UTC)", usage.month));
  bars(usage.days);
  table(by("models"), ["'Model", "Requests", "Tokens in", "Tokens out", "Refused", "Cost"], usage.models.map((one) => [
    one.model || "(none)", number.format(one.requests), number.format(one.prompt_tokens), number.format(one.completion_tokens),
    number.format(one.refused), money(one.cost),
  ]), "No request this month yet.");
  table(by("limits"), ["'Limit", "Left", "Used", "'Counted for", "'Model", "'Whole again"], limits.limits.map((one) => [
    one.limit, left(one), used(one), WHOSE[one.whose], one.model || "any", one.whole ? time(one.whole) : "",
  ]), "Your key comes under no limit.");
  showMonth(month);
  showRotation(facts);
  by("as-of").textContent = "As of " + time(usage.time) + "; the newest requests may take a second.";
  by("figures").hidden = false;
  by("enter").hidden = true;
  by("leave").hidden = false;
}

async function tryTo(work, button) {
  button.disabled = true;
  trouble(null);
  try {
    await work();
  } catch (error) {
    trouble(error);
    if (error.status === 401 && !by("figures").hidden) forget();
  } finally {
    button.disabled = false;
  }
}

function forget() {
  secret = "";
  by("secret").value = "";
  by("new-secret").textContent = "";
  by("secret-shown").hidden = true;
  by("figures").hidden = true;
  by("enter").hidden = false;
  by("leave").hidden = true;
  by("secret").focus();
}

by("enter").addEventListener("submit", (event) => {
  event.preventDefault();
  secret = by("secret").value.trim();
  by("secret").value = "";
  if (!/^[\x21-\x7e]+$/.test(secret)) {
    trouble(new Error("That is no API key: it has letters, digits and signs, and no spaces."));
    return;
  }
  tryTo(look, event.submitter || by("enter").querySelector("button"));
});
by("again").addEventListener("click", (event) => tryTo(look, event.currentTarget));
by("leave").addEventListener("click", () => { trouble(null); forget(); });
by("copy").hidden = !navigator.clipboard; // browsers have it over TLS and on this machine only
by("copy").addEventListener("click", () => navigator.clipboard.writeText(by("new-secret").textContent));
by("rotate").addEventListener("submit", (event) => {
  event.preventDefault();
  tryTo(async () => {
    const made = await ask("rotate", { method: "POST", body: JSON.stringify({ overlap: by("overlap").value }) });
    secret = made.secret;
    by("new-secret").textContent = made.secret;
    by("old-until").textContent = "The old one works until " + time(made.old_until) + ".";
    by("secret-shown").hidden = false;
    await look();
  }, event.submitter || by("rotate").querySelector("button"));
});
