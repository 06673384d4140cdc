"use strict";
// Shows one exchange, asked anew every second. Everything that comes from outside is put in as text.

const KINDS = {
  "Requests": {
    REQUEST_LOST: "lost", REQUEST_DELAYED: "delayed", TOO_MANY_REQUESTS: "429", BANNED: "418",
    MAINTENANCE: "maintenance",
  },
  "Answers, after acceptance": {
    ANSWER_LOST: "lost", ANSWER_DELAYED: "delayed", ERROR_AFTER: "-1007",
  },
  "Streams": {
    EVENT_DROPPED: "drop an event", EVENT_DUPLICATED: "duplicate", EVENT_REORDERED: "reorder",
    STREAM_SILENT: "silence", DISCONNECT: "disconnect", RESTART: "restart",
  },
  "Cancels and queries": {
    CANCEL_FILLED: "cancel finds it filled", FILL_AFTER_CANCEL: "fill after cancel",
    STALE_OPEN_ORDERS: "stale open orders", HISTORY_LAGS: "fills lag", NOT_FOUND: "not found yet",
  },
  "Clock": { CLOCK_SKEW: "10 s ahead" },
};
const EVERY_MS = 1000;
const PATIENCE_MS = 5000;

const $ = (id) => document.getElementById(id);
let symbol = "BTC/USDT";

function make(tag, text = "", kind = "", ...children) {
  const node = document.createElement(tag);
  node.textContent = text;
  if (kind) node.className = kind;
  node.append(...children);
  return node;
}

// Numbers come as text, so that no digit is lost; only their look is changed.
function plain(text) {
  if (text === null || text === undefined) return "–";
  const [whole, part = ""] = String(text).split(".");
  const grouped = whole.replace(/\B(?=(\d{3})+$)/g, "\u202f");
  const rest = part.replace(/0+$/, "");
  return rest ? `${grouped}.${rest}` : grouped;
}

const time = (ns) => new Date(ns / 1e6).toISOString().slice(11, 19);

function fill(id, nodes, nothing) {
  $(id).replaceChildren(...(nodes.length || !nothing ? nodes : [nothing]));
}

async function ask(method, path, body) {
  const answer = await fetch(`admin/${path}`, {
    method,
    headers: body === undefined ? {} : { "content-type": "application/json" },
    body: body === undefined ? undefined : JSON.stringify(body),
    signal: AbortSignal.timeout(PATIENCE_MS),
  });
  const found = await answer.json();
  if (!answer.ok) throw new Error(found.text || answer.statusText);
  return found;
}

function trouble(error) {
  $("trouble").hidden = !error;
  $("trouble").textContent = error ? `The exchange does not answer: ${error.message}` : "";
}

function showBook(book, last) {
  $("last").textContent = plain(last);
  const most = Math.max(...[...book.bids, ...book.asks].map((level) => Number(level.qty)), 0);
  const row = (level) => {
    const users = Number(level.users_qty) ? plain(level.users_qty) : "";
    const node = make("tr", "", "", make("td", plain(level.price), "n"), make("td", plain(level.qty), "n"),
      make("td", users, "n own"));
    node.style.backgroundSize = `${most ? (100 * Number(level.qty)) / most : 0}% 100%`;
    return node;
  };
  fill("asks", book.asks.map(row).reverse());
  fill("bids", book.bids.map(row));
  const cell = make("td", book.bids.length && book.asks.length
    ? `spread ${plain((Number(book.asks[0].price) - Number(book.bids[0].price)).toFixed(8))}`
    : "one side is empty");
  cell.colSpan = 3;
  fill("middle", [make("tr", "", "", cell)]);
}

function showTrades(trades) {
  const row = (t) => make("tr", "", "", make("td", time(t.time_ns), "soft"),
    named(`${t.side} ${t.account}`, t.side === "BUY" ? "up" : "down"),
    make("td", plain(t.price), "n"), make("td", plain(t.qty), "n"));
  fill("trades", trades.slice(0, 12).map(row), nothing("no trades yet", 4));
}

// Names are as long as people make them.
function named(text, kind = "") {
  const node = make("td", text, `who ${kind}`);
  node.title = text;
  return node;
}

function nothing(text, columns) {
  const cell = make("td", text, "none");
  cell.colSpan = columns;
  return make("tr", "", "", cell);
}

function showAccounts(accounts) {
  const assets = [...new Set(accounts.flatMap((a) => a.balances.map((b) => b.asset)))].sort();
  fill("assets", [make("th", "Account"), ...assets.map((a) => make("th", a, "n")), make("th", "Open", "n")]);
  const cell = (balance) => {
    const node = make("td", balance ? plain(balance.free) : "–", "n");
    if (balance && Number(balance.held)) node.append(make("small", `${plain(balance.held)} held`));
    return node;
  };
  fill("accounts", accounts.map((account) => {
    const by = Object.fromEntries(account.balances.map((b) => [b.asset, b]));
    return make("tr", "", "", make("td", account.name), ...assets.map((a) => cell(by[a])),
      make("td", String(account.open_orders), "n"));
  }), nothing("no accounts yet", assets.length + 2));
  const known = new Set([...$("account").options].map((o) => o.value));
  for (const account of accounts) {
    if (!known.has(account.name)) {
      const option = make("option", account.name);
      option.value = account.name;
      $("account").append(option);
    }
  }
}

function showOrders(orders) {
  const row = (o) => {
    const size = o.order_qty === null ? `for ${plain(o.quote_qty)}` : plain(o.order_qty);
    const status = o.ord_status.toLowerCase().replaceAll("_", " ");
    const open = o.ord_status === "NEW" || o.ord_status === "PARTIALLY_FILLED";
    const id = make("td", String(o.order_id), "id", make("small", o.client_order_id || ""));
    id.title = o.client_order_id || "";
    const node = make("tr", "", "", id, named(o.account), make("td", o.symbol),
      make("td", `${o.side} ${size} ${o.ord_type.replaceAll("_", " ")}`, o.side === "BUY" ? "up" : "down"),
      make("td", plain(o.price), "n"), make("td", plain(o.cum_qty), "n"),
      make("td", status, open ? "own" : ""));
    node.dataset.order = String(o.order_id);
    return node;
  };
  fill("orders", orders.map(row), nothing("no orders yet", 7));
}

function showFaults(faults) {
  const item = (fault) => {
    const about = Object.entries(fault.spec).filter(([name]) => name !== "kind").map(([n, v]) => (n === "times" && !v ? "without end" : `${n} ${v}`));
    const left = fault.left === null ? "" : `, ${fault.left} left`;
    const back = make("button", "take back", "quiet");
    back.addEventListener("click", () => act(() => ask("DELETE", `faults/${fault.fault_id}`)));
    const node = make("li", "", "", make("b", fault.kind),
      make("span", `${about.join(", ")}${about.length ? "; " : ""}hit ${fault.hits}${left}`, "soft"), back);
    node.dataset.fault = String(fault.fault_id);
    return node;
  };
  fill("faults", faults.map(item), make("li", "none: the exchange behaves", "none"));
  $("clear").hidden = faults.length < 2;
}

function showHits(hits) {
  const item = (line) => {
    const said = line.detail.arguments;
    const what = [said.operation, line.account, said.symbol, line.detail.client_order_id].filter(Boolean);
    return make("li", "", "", make("span", time(line.time_ns), "soft at"), make("b", said.kind),
      make("span", what.join(" · "), "soft"));
  };
  fill("hits", hits.slice(0, 12).map(item), make("li", "nothing yet", "none"));
}

function showStatus(status, invariants) {
  fill("chips", [
    make("span", invariants.ok ? "books in order" : invariants.violations[0], invariants.ok ? "chip good" : "chip bad"),
    make("span", status.durable ? "kept in a file" : "kept in memory", "chip"),
    make("span", `liquidity: ${status.liquidity}`, "chip"),
    make("span", `seed ${status.seed}`, "chip"),
    make("span", `${plain(status.audit_lines)} audit lines`, "chip"),
  ]);
  $("clock").textContent = `${status.clock} clock, ${new Date(status.time_ns / 1e6).toISOString().slice(0, 19)}Z`;
}

function showSymbols(prices) {
  fill("symbols", prices.map((price) => {
    const button = make("button", price.symbol);
    button.setAttribute("aria-pressed", String(price.symbol === symbol));
    button.addEventListener("click", () => { symbol = price.symbol; act(); });
    return button;
  }));
}

let asked = 0;
async function refresh() {
  const mine = ++asked;
  try {
    const shown = await ask("GET", `overview?symbol=${encodeURIComponent(symbol)}`);
    // A slow answer must not overwrite a later one.
    if (mine !== asked) return;
    showStatus(shown.status, shown.invariants);
    showSymbols(shown.prices);
    showBook(shown.book, shown.prices.find((p) => p.symbol === symbol)?.last);
    showTrades(shown.trades);
    showAccounts(shown.accounts);
    showOrders(shown.orders);
    showFaults(shown.faults);
    showHits(shown.hits);
    trouble(null);
  } catch (error) {
    if (mine === asked) trouble(error);
  }
}

async function act(what) {
  try {
    if (what) await what();
  } catch (error) {
    trouble(error);
    return;
  }
  await refresh();
}

async function keep() {
  await refresh();
  setTimeout(keep, EVERY_MS);
}

for (const [group, kinds] of Object.entries(KINDS)) {
  const row = make("div");
  for (const [kind, text] of Object.entries(kinds)) {
    const button = make("button", text);
    button.title = kind;
    button.dataset.kind = kind;
    button.addEventListener("click", () => act(async () => {
      await ask("POST", "faults", { kind, account: $("account").value, ...JSON.parse($("often").value) });
      button.classList.add("sent");
      setTimeout(() => button.classList.remove("sent"), 700);
    }));
    row.append(button);
  }
  $("buttons").append(make("h3", group), row);
}
$("clear").addEventListener("click", () => act(() => ask("DELETE", "faults")));
$("scope").addEventListener("submit", (event) => event.preventDefault());
keep();
