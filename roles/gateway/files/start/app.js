// Copyright: the mlops.onprem developers
// GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
// The start page: asks, draws, and asks again every fifteen seconds while somebody looks.
import * as api from "./api.js";
import { draw } from "./chart.js";
import * as detail from "./detail.js";
import { h, morph } from "./dom.js";
import * as facts from "./facts.js";
import { alertsPart, overview } from "./overview.js";
import { speaker } from "./parts.js";
import { askToSilence } from "./silence.js";
import { LANGUAGES } from "./words.js";

const EVERY = 15;
const SCHEME = "mlops.start.scheme";
const LANGUAGE = "mlops.start.language";
const SCHEMES = ["auto", "light", "dark"];

const view = document.getElementById("view");
const state = {
  language: api.remembered(LANGUAGE) ?? document.documentElement.lang,
  scheme: api.remembered(SCHEME) ?? "auto",
  site: null,
  account: "",
  rights: "",
  trouble: null,
  known: { troubles: {} },
  answered: null,
  turn: 0,
  route: { page: "overview", name: "" },
  asking: null,
};
if (!(state.language in LANGUAGES)) state.language = "en";

function route() {
  const found = /^#\/(device|model)\/(.+)$/.exec(location.hash);
  if (!found) return { page: "overview", name: "" };
  try {
    return { page: found[1], name: decodeURIComponent(found[2]) };
  } catch {
    return { page: "overview", name: "" };
  }
}

function tell(words) {
  const said = document.getElementById("said");
  said.textContent = "";
  said.textContent = words;
}

// -- what stands above everything ---------------------------------------------------------------

const QUESTIONS = ["services", "fleet", "models", "now"];

/** The trouble that everything else follows from, if there is one. */
function trouble() {
  if (state.trouble) return state.trouble;
  const troubles = Object.entries(state.known.troubles ?? {});
  return troubles.find(([name]) => QUESTIONS.includes(name))?.[1] ?? null;
}

function banner(speak) {
  const { t, f } = speak;
  const found = trouble();
  if (!found) return null;
  const time = state.answered ? f.clock(state.answered) : null;
  const texts = {
    forbidden: [null, t("forbidden")],
    absent: [t("absent_title"), t("absent")],
    slow: [t("slow_title"), time ? t("slow", { time }) : t("loading")],
    broken: [t("broken_title"), t("broken", { detail: found.message })],
    down: state.trouble ? [t("offline_title"), time ? t("offline", { time }) : t("loading")] : [t("down_title"), time ? t("down", { time }) : t("down_never")],
  };
  const [title, words] = texts[found.kind] ?? texts.broken;
  return h("div", { "data-key": "banner", class: "banner", role: "alert" }, title ? h("strong", {}, title) : null, h("p", {}, words));
}

function verdict(speak) {
  const { t, f } = speak;
  const { known } = state;
  const { firing } = facts.sorted(known.alerts);
  const critical = firing.filter((alert) => facts.urgency(alert) === 0).length;
  const partly = Object.keys(known.troubles ?? {}).length > 0;
  let words = t("all_well");
  let kind = "good";
  if (!known.alerts) [words, kind] = [state.turn || trouble() ? t("nothing_known") : t("loading"), "info"];
  else if (firing.length) {
    words = firing.length === 1 ? t("firing_one") : t("firing_many", { count: f.count(firing.length) });
    if (critical && firing.length > 1) words += ` ${t("of_them_critical", { count: f.count(critical) })}`;
    kind = critical ? "critical" : "warning";
  } else if (partly || unwell()) [words, kind] = [t("only_known"), "warning"];
  const time = state.answered ? f.clock(state.answered) : null;
  return h(
    "div",
    { "data-key": "verdict", class: `verdict ${kind}` },
    h("p", { class: "sentence" }, h("span", { class: `mark ${kind}` }, h("span", { class: "shape", "aria-hidden": "true" })), words),
    time ? h("p", { class: "quiet n" }, trouble() ? t("as_of_old", { time }) : t("as_of", { time, every: f.span(EVERY) })) : null,
  );
}

function unwell() {
  const down = (state.known.services ?? []).some(({ value }) => value !== 1);
  return down || facts.devices(state.site, state.known.fleet).some((one) => state.known.fleet && one.state !== "serving" && one.state !== "idle");
}

// -- pages ------------------------------------------------------------------------------------

function signedOut({ t }) {
  return [
    h(
      "section",
      { "data-key": "signed-out", class: "signed-out" },
      h("h2", {}, t("signed_out_title")),
      h("p", {}, t("signed_out")),
      h("p", {}, h("a", { class: "button", href: `/sign-in${location.hash}` }, t("sign_in"))),
    ),
  ];
}

function elsewhere({ t }) {
  return [h("section", { "data-key": "elsewhere", class: "signed-out" }, h("h2", {}, t("elsewhere_title")), h("p", {}, t("elsewhere")))];
}

function page(speak) {
  if (!api.signedIn()) return signedOut(speak);
  if (state.site && state.site.measured_here === false) return elsewhere(speak);
  const maySilence = ["operator", "administrator"].includes(state.rights);
  const context = { site: state.site, known: state.known, speak, maySilence, onSilence, onEnd };
  const { page: name, name: which } = state.route;
  const top = [banner(speak)];
  if (name === "overview") {
    top.push(verdict(speak));
    // Without a single answer there is nothing to show but why, and what fires.
    if (trouble() && !state.answered) return [...top, state.known.alerts ? h("div", { "data-key": "parts", class: "parts" }, alertsPart(context, facts.sorted(state.known.alerts))) : null];
    return [...top, ...overview(context)];
  }
  if (trouble() && !state.answered) return top;
  return [...top, ...detail[name](context, which)];
}

function render() {
  const speak = speaker(state.language);
  const { t } = speak;
  document.documentElement.lang = state.language;
  document.title = `${document.querySelector("h1").textContent.trim()}: ${state.route.name || t("title")}`;
  for (const element of document.querySelectorAll("[data-word]")) element.textContent = t(element.dataset.word);
  for (const element of document.querySelectorAll("[data-en]")) element.textContent = element.dataset[state.language];
  morph(document.getElementById("switches"), switches(speak));
  view.classList.toggle("stale", Boolean(trouble() && state.answered));
  morph(view, page(speak).filter(Boolean));
  const dark = state.scheme === "auto" ? matchMedia("(prefers-color-scheme: dark)").matches : state.scheme === "dark";
  draw(view, `${state.language} ${dark}`);
}

function choice(id, label, options, chosen, change) {
  const select = h("select", { id, on: { change: (event) => change(event.target.value) } }, options.map(([value, words]) => h("option", { value, selected: value === chosen }, words)));
  return h("div", { "data-key": `${id} ${state.language}` }, h("label", { for: id }, label), select);
}

function switches({ t }) {
  return [
    choice("language", t("language"), Object.entries(LANGUAGES), state.language, (value) => {
      state.language = value;
      api.remember(LANGUAGE, value);
      render();
      document.getElementById("language").focus();
    }),
    choice("scheme", t("colours"), SCHEMES.map((name) => [name, t(`scheme_${name}`)]), state.scheme, (value) => {
      state.scheme = value;
      api.remember(SCHEME, value === "auto" ? null : value);
      if (value === "auto") delete document.documentElement.dataset.scheme;
      else document.documentElement.dataset.scheme = value;
      render();
    }),
  ];
}

// -- silences ---------------------------------------------------------------------------------

function onSilence(alert) {
  askToSilence({ alert, account: state.account, speak: speaker(state.language), tell, done: refresh });
}

async function onEnd(silence) {
  const { t } = speaker(state.language);
  try {
    await api.endSilence(silence.id);
    tell(t("silence_ended"));
  } catch (found) {
    tell(found.kind === "forbidden" ? t("forbidden") : t("silence_failed", { detail: found.message }));
  }
  refresh();
}

// -- asking -----------------------------------------------------------------------------------

/** Ask once, if nobody asks already; a page that was left meanwhile is not drawn. */
async function refresh() {
  if (state.asking) {
    state.again = true;
    return;
  }
  if (!api.signedIn()) {
    render();
    return;
  }
  const { page: name, name: which } = state.route;
  state.asking = true;
  try {
    const { data, account, rights } = await api.site();
    [state.site, state.account, state.rights, state.trouble] = [data, account, rights, null];
    if (data.measured_here !== false) {
      const ask = name === "overview" ? facts.overview(state.turn, state.known) : facts[name](which, state.known);
      const known = await ask;
      if (state.route.page === name && state.route.name === which) {
        state.known = known;
        state.turn += 1;
        if (!Object.keys(known.troubles).some((one) => QUESTIONS.includes(one))) state.answered = new Date();
        if (Object.values(known.troubles).some(({ kind }) => kind === "signed_out")) api.signOut();
      }
    }
  } catch (found) {
    if (!(found instanceof api.Trouble)) throw found;
    if (found.kind === "signed_out") api.signOut();
    state.trouble = found;
  } finally {
    state.asking = false;
    render();
  }
  if (state.again) {
    state.again = false;
    refresh();
  }
}

function follow() {
  if (!/^#(\/|$)/.test(location.hash) && location.hash) return; // the link to the content
  const next = route();
  const moved = next.page !== state.route.page || next.name !== state.route.name;
  state.route = next;
  if (!moved) return;
  state.known = { troubles: {} };
  state.turn = 0;
  state.answered = null;
  render();
  window.scrollTo(0, 0);
  (document.getElementById("detail") ?? document.getElementById("main")).focus({ preventScroll: true });
  refresh();
}

if (location.pathname === "/sign-in") {
  // Whoever sees this address has given an account to the browser.
  api.signIn();
  history.replaceState(null, "", `/${location.hash}`);
}
state.route = route();
addEventListener("hashchange", follow);
addEventListener("resize", () => requestAnimationFrame(render));
document.addEventListener("visibilitychange", () => document.hidden || refresh());
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", render);
setInterval(() => document.hidden || refresh(), EVERY * 1000);
render();
refresh();
