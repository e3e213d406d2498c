// The two chains of the book and their textbook rules, as meirl/envs and meirl/heuristics have them, for one episode.
// Tests replay recorded episodes of the published code. Node 0 is upstream; `now` is what nature does in a period.
// A state: stock, what is owed to customers, waiting orders or customers; due[node][k] arrives in k + 1 periods.
"use strict";
const Chain = (() => {
  const { min, max, abs } = Math;
  const sum = (values) => values.reduce((a, b) => a + b, 0), zeros = (count) => Array(count).fill(0);
  const start = (p) => ({ stock: [...p.stock], owed: zeros(p.stock.length - 1), waiting: zeros(p.stock.length - 1),
    due: p.stock.map(() => zeros(p.longest)), queue: p.stock.slice(1).map(() => zeros(p.patience ?? 0)) });
  const arrivals = (s) => s.due.map((slots) => (slots.push(0), slots.shift())); // a period passes: what has come due

  function ration(p, waiting, available) { // waiting orders are served one after the other
    const turn = waiting.map((_, i) => i), sent = zeros(waiting.length);
    if (p.largestFirst) turn.sort((a, b) => waiting[b] - waiting[a]);
    for (const i of turn) available -= sent[i] = min(waiting[i], available);
    return sent;
  }

  function divergent(p, s, orders, now) {
    const ordered = orders.map((q, i) => min(q, p.largestOrder[i]));
    s.stock = arrivals(s).map((units, i) => min(s.stock[i] + units, p.shelf[i])); // 1. receive
    s.due[0][now.lead[0] - 1] += min(ordered[0], now.supply); // 2. the supplier ships
    const sent = ration(p, s.waiting, min(s.stock[0], now.outbound)); // 3. the warehouse ships
    s.stock[0] = max(0, s.stock[0] - sum(sent) - now.direct); // its own customers belong to 5.
    let cost = p.holding[0] * s.stock[0], filled = 0, lost = 0;
    sent.forEach((units, i) => {
      s.due[i + 1][now.lead[i + 1] - 1] += units;
      s.waiting[i] = min(ordered[i + 1] > 0 ? ordered[i + 1] : s.waiting[i] - units, p.waitingLimit[i]); // 4. order
      const net = s.stock[i + 1] - s.owed[i], available = max(0, net); // 5. demand, after what is owed
      const served = min(available, now.demand[i]), unmet = now.demand[i] - served, gone = unmet * p.lostShare;
      s.owed[i] = min(unmet - gone + (available - net), p.owedLimit[i]);
      s.stock[i + 1] = available - served;
      filled += served;
      lost += gone;
      cost += p.holding[i + 1] * s.stock[i + 1] + p.shortage[i] * s.owed[i] + p.lostCost * gone; // 6. cost
    });
    return { cost, filled, lost, ordered };
  }

  function meis(p, s, orders, now) {
    const today = arrivals(s);
    orders.forEach((q, i) => { s.due[i][now.lead[i] - 1] += q; }); // 1. order
    let cost = sum(orders.map((q, i) => (q > 0 ? max(p.orderLeast[i], p.orderPerUnit[i] * q) : 0)));
    let left = min((s.stock[0] += today[0]), now.outbound), filled = 0, lost = 0;
    s.queue.forEach((queue, i) => {
      const served = min(s.stock[i + 1], now.demand[i]), sent = min(today[i + 1], left); // 2. demand, 3. deliveries
      left -= sent;
      s.stock[0] -= sent;
      s.due[i + 1][0] += today[i + 1] - sent; // what is missing is due tomorrow
      let stock = s.stock[i + 1] - served + sent;
      queue.push(now.demand[i] - served); // 4. backlog: the oldest first
      queue.forEach((units, k) => {
        queue[k] = max(0, units - stock);
        stock = max(0, stock - units);
      });
      const withdrawn = queue.shift();
      s.stock[i + 1] = stock;
      s.owed[i] = sum(queue);
      filled += served;
      lost += withdrawn;
      cost += p.shortage[i] * s.owed[i] + p.lostCost * withdrawn; // 5. cost
    });
    cost += sum(s.due.map((slots, i) => p.holding[i] * s.stock[i] + p.pipeline * sum(slots)));
    return { cost, filled, lost, ordered: orders };
  }

  // Base stock: every node orders its level minus its position. `open` counts what ships now, `echelon` all downstream.
  function baseStock(p, rule, levels, s) {
    const own = s.stock.map((x, i) => x + sum(s.due[i]) - (i ? s.owed[i - 1] : 0));
    const shipping = rule.open ? ration(p, s.waiting, s.stock[0] + s.due[0][0]) : zeros(s.owed.length);
    own[0] += rule.echelon ? sum(own.slice(1)) : -sum(s.waiting);
    return levels.map((level, i) => min(max(0, level - own[i] - (i ? shipping[i - 1] : 0)), p.largestOrder[i]));
  }

  // (s, S): of the nodes below s, the one that lacks most orders the option nearest to its gap to S.
  function reorderPoint(p, rule, levels, s) {
    const position = s.stock.map((x, i) => x + sum(s.due[i]) - (rule.backlog && i ? s.owed[i - 1] : 0));
    const gap = position.map((x, i) => levels[2 * i] - x), node = gap.indexOf(max(...gap)), orders = zeros(gap.length);
    const off = (option) => abs(levels[2 * node + 1] - position[node] - option);
    if (gap[node] > 0) orders[node] = p.options[node].reduce((best, o) => (off(o) < off(best) ? o : best));
    return orders;
  }

  const kinds = { divergent: [divergent, baseStock], meis: [meis, reorderPoint] };
  return {
    rule: (chain, levels) => (s) => kinds[chain.kind][1](chain.parameters, chain.rule, levels, s),
    play(chain, now, decide, see = () => {}) { // `now`: by period; `decide(state, t)` gives the orders; `see` may watch
      const s = start(chain.parameters), total = { cost: 0, filled: 0, demand: 0 };
      now.forEach((draws, t) => {
        const result = kinds[chain.kind][0](chain.parameters, s, decide(s, t), draws);
        total.cost += result.cost;
        total.filled += result.filled;
        total.demand += sum(draws.demand);
        see(s, result, total);
      });
      return total;
    },
  };
})();
