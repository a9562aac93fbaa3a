// Copyright: the mlops.onprem developers
// GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
// Everything that the page asks, all of it at its own gateway. The browser adds the account; the
// password is never seen here.

const PATIENCE = 10000;
const SIGNED_IN = "mlops.start.account";

/** Why something could not be had: signed_out, forbidden, absent, down, slow or broken. */
export class Trouble extends Error {
  constructor(kind, detail = "") {
    super(detail || kind);
    this.kind = kind;
  }
}

export function remember(name, value) {
  try {
    if (value === null) localStorage.removeItem(name);
    else localStorage.setItem(name, value);
  } catch {
    // A browser that keeps nothing is asked again next time.
  }
}

export function remembered(name) {
  try {
    return localStorage.getItem(name);
  } catch {
    return null;
  }
}

/** Whether this browser has had an account; asking without would open its window unbidden. */
export const signedIn = () => remembered(SIGNED_IN) !== null;
export const signIn = () => remember(SIGNED_IN, "1");
export const signOut = () => remember(SIGNED_IN, null);

const KINDS = { 401: "signed_out", 403: "forbidden", 404: "absent", 429: "slow", 502: "down", 503: "down", 504: "down" };

async function ask(path, options = {}) {
  const patience = new AbortController();
  const timer = setTimeout(() => patience.abort(), PATIENCE);
  try {
    const answer = await fetch(path, { ...options, credentials: "same-origin", signal: patience.signal });
    const body = await answer.text();
    if (!answer.ok) throw new Trouble(KINDS[answer.status] ?? "broken", body.slice(0, 300));
    return { answer, body };
  } catch (error) {
    if (error instanceof Trouble) throw error;
    throw new Trouble(patience.signal.aborted ? "slow" : "down");
  } finally {
    clearTimeout(timer);
  }
}

async function json(path, options) {
  const { answer, body } = await ask(path, options);
  const said = (name) => answer.headers.get(name) ?? "";
  try {
    return { data: JSON.parse(body), account: said("Mlops-Account"), rights: said("Mlops-Rights") };
  } catch {
    throw new Trouble("broken");
  }
}

/** What the inventory and the plan say, the name of the account and what it may. */
export const site = () => json("/site.json");

async function prometheus(path, values) {
  const { data } = await json(`/prometheus/api/v1/${path}?${new URLSearchParams(values)}`);
  if (data?.status !== "success") throw new Trouble("broken", data?.error);
  return data.data.result;
}

/** Series with their labels and one value. */
export async function now(query) {
  const found = await prometheus("query", { query });
  return found.map(({ metric, value }) => ({ ...metric, value: Number(value[1]) }));
}

/** Series with their labels and the points of the last hour. */
export async function lastHour(query, step = 60) {
  const end = Math.floor(Date.now() / 1000 / step) * step;
  const found = await prometheus("query_range", { query, start: end - 3600, end, step });
  return found.map(({ metric, values }) => ({
    ...metric,
    points: values.map(([time, value]) => [time, Number(value)]),
  }));
}

export async function alerts() {
  return (await json("/alertmanager/api/v2/alerts?active=true&silenced=true&inhibited=true")).data;
}

export async function silences() {
  const { data } = await json("/alertmanager/api/v2/silences");
  return data.filter((silence) => silence.status.state !== "expired");
}

export async function setSilence(silence) {
  const { data } = await json("/alertmanager/api/v2/silences", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(silence),
  });
  return data.silenceID;
}

export async function endSilence(id) {
  await ask(`/alertmanager/api/v2/silence/${encodeURIComponent(id)}`, { method: "DELETE" });
}
