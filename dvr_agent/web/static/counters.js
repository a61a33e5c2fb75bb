// Packet and byte counters of devices, asked for every two seconds while they are in sight.

import {ask} from "./connection.js";

const PERIOD_MS = 2000;

/** Follow the counters of namespaces: receive({namespace: {device: {rx, tx, drops}}}) with bytes per second and totals. */
export function followCounters(namespaces, router, receive, signal) {
  let last = null; // {at, answer}
  const turn = async () => {
    if (signal.aborted) return;
    if (document.visibilityState === "visible" && namespaces().length) {
      try {
        const answer = await ask("counters", {namespaces: namespaces().join(","), router}, signal);
        const now = performance.now();
        receive(rates(answer, last && {...last, seconds: (now - last.at) / 1000}));
        last = {at: now, answer};
      } catch {
        // the next turn tries again; the bar says what is wrong with the connection
      }
    }
    setTimeout(turn, PERIOD_MS);
  };
  turn();
}

function rates(answer, last) {
  const found = {};
  for (const [namespace, devices] of Object.entries(answer)) {
    found[namespace] = {};
    for (const [device, now] of Object.entries(devices)) {
      const before = last?.answer[namespace]?.[device];
      const speed = (key) => (before ? Math.max((now[key] - before[key]) / last.seconds, 0) : null);
      found[namespace][device] = {
        ...now, rx_rate: speed("rx_bytes"), tx_rate: speed("tx_bytes"), drops: now.rx_dropped + now.tx_dropped,
      };
    }
  }
  return found;
}
