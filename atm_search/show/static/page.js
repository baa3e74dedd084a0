// Draws a study from one JSON value: of a report, where it is part of the page, or of a
// dashboard, which is asked for it again and again and answers 304 while nothing is new.
"use strict";

const POLL_MS = 2000;
const SIDE_BY_SIDE = ["tokens", "thresholds", "hypervolume", "importance", "fidelity"];
const study = new URLSearchParams(location.search).get("study");
const part = (id) => document.getElementById(id);
const query = (values) => new URLSearchParams(values).toString();
let data = null;
let chosen = null;

function element(tag, text, properties) {
  return Object.assign(document.createElement(tag), {textContent: text ?? ""}, properties);
}

function fixed(value, digits, signed) {
  return (signed && value >= 0 ? "+" : "") + value.toFixed(digits);
}

// The change of top-1 with its interval, or without labels the distance from the dense model.
function changeText(measured) {
  if (measured.delta_top1 === null) return Object.values(quality(measured))[0];
  const {delta_top1: change, delta_ci95: [low, high]} = measured;
  return `${fixed(change, 2, true)} (${fixed(low, 2, true)} to ${fixed(high, 2, true)})`;
}

function show() {
  document.title = `${data.study} · atm-search`;
  part("title").textContent = data.study;
  part("content").hidden = false;
  part("note").replaceChildren(...data.note.map((line) => element("p", line)));
  part("caveats").replaceChildren(...data.caveats.map((line) => element("p", line)));
  for (const name of ["commands", "provenance"]) {
    const rows = data[name].flatMap(([key, value]) => [element("dt", key), element("dd", value)]);
    part(name).replaceChildren(...rows);
  }
  showTable();
  // All before the first is drawn: what is hidden has no width, and takes none from the others.
  ["frontier", ...SIDE_BY_SIDE].forEach((name) => (part(name).hidden = !data.figures[name]));
  drawFigure("frontier", 560);
  SIDE_BY_SIDE.forEach((name) => drawFigure(name, 380));
}

function drawFigure(name, height) {
  const figure = data.figures[name];
  const place = part(name);
  if (!figure) return;
  const layout = {...figure.layout, height, width: undefined, autosize: true};
  const first = !place.data;
  Plotly.react(place, figure.data, layout, {responsive: true, displaylogo: false});
  if (first) {
    place.on("plotly_click", (event) => {
      const number = event.points[0].customdata;
      if (number !== undefined) choose(number);
    });
  }
}

// What says how good a configuration is, by heading: the distance from the dense model if the
// search went by it, and accuracy if there are labels.
function quality(row) {
  const found = {};
  const error = (value, se, digits) => `${fixed(value, digits)} ± ${fixed(se, digits)}`;
  if (row.feature !== null) found["feature distance"] = error(row.feature, row.feature_se, 5);
  else if (row.top1 === null || !data.summary.objectives.startsWith("top1")) {
    found["KL"] = error(row.kl, row.kl_se, 4);
    found["agreement"] = fixed(row.agreement, 2);
  }
  if (row.top1 !== null) {
    const [low, high] = row.delta_ci95;
    found["top-1"] = fixed(row.top1, 2);
    found["change"] = fixed(row.delta_top1, 2, true);
    found["95 % interval"] = `${fixed(low, 2, true)} to ${fixed(high, 2, true)}`;
  }
  return found;
}

function showTable() {
  const rows = data.summary.frontier;
  if (!rows.length) return;
  const params = data.columns.length ? data.columns : ["configuration"];
  const table = element("table");
  const confirmed = rows.some((row) => row.confirmed) ? ["confirmed change"] : [];
  const timed = data.summary.latency ? ["ms"] : [];
  const names = ["trial", "GFLOPs", "saved", ...timed, ...Object.keys(quality(rows[0])), ...confirmed,
    ...params, ""];
  const head = table.createTHead().insertRow();
  names.forEach((name) => head.append(element("th", name)));
  const body = table.createTBody();
  for (const row of rows) {
    const line = body.insertRow();
    line.id = `row-${row.trial}`;
    line.className = row.trial === chosen ? "chosen" : "";
    line.onclick = () => choose(row.trial);
    [
      row.trial,
      fixed(row.gflops, 4),
      `${fixed(100 * (row.gflops / row.dense_gflops - 1), 1, true)} %`,
      ...timed.map(() => fixed(row.latency.median_ms, 2)),
      ...Object.values(quality(row)),
      ...confirmed.map(() => row.confirmed ? changeText(row.confirmed) : ""),
      ...(data.columns.length ? data.columns.map((key) => row.params[key]) : [row.settings]),
    ].forEach((text) => line.append(element("td", String(text))));
    line.append(element("td", row.pick, {className: "pick"}));
  }
  part("table").replaceChildren(table);
}

function choose(number) {
  chosen = number;
  showTable();
  const row = data.summary.frontier.find((item) => item.trial === number);
  const place = part("trial");
  place.hidden = false;
  const lines = [element("h2", `Trial ${number}`)];
  if (row) {
    lines.push(element("p", row.settings));
    const counts = row.tokens_per_layer.map((count) => Math.round(count)).join(" ");
    lines.push(element("p", `Tokens that enter each MLP, mean: ${counts}`));
    if (row.thresholds) {
      const taus = row.thresholds.map((tau) => tau.toFixed(3)).join(" ");
      lines.push(element("p", `Threshold of each block: ${taus}`));
    }
  } else {
    lines.push(element("p", "Not on the frontier."));
  }
  const picture = element("div", "", {id: "picture"});
  place.replaceChildren(...lines, picture);
  place.scrollIntoView({block: "nearest"});
  showPicture(picture, number);
}

async function showPicture(place, number) {
  const about = "Each image alone, simple to complex. A merged token is one region in its mean " +
    "colour; a sharp patch is unmerged. Right: ToMe at the same GFLOPs.";
  if (data.pictures) {
    const source = data.pictures[number];
    if (source) place.replaceChildren(element("p", about), element("img", "", {src: source}));
    return;
  }
  place.replaceChildren(element("p", "Drawing token pictures …"));
  let parts;
  try {
    const answer = await fetch(`/frontier/tokens?${query({study: data.study, trial: number})}`);
    if (answer.ok) {
      const source = URL.createObjectURL(await answer.blob());
      const alt = `What trial ${number} merges`;
      parts = [element("p", about), element("img", "", {src: source, alt})];
    } else {
      parts = [element("p", await answer.text(), {className: "missing"})];
    }
  } catch {
    parts = [element("p", "The dashboard does not answer.", {className: "missing"})];
  }
  if (chosen === number) place.replaceChildren(...parts);
}

async function poll() {
  try {
    // The browser sends the ETag of what it has; an unchanged study costs the store one query.
    const answer = await fetch(`/frontier/data?${query({study})}`, {cache: "no-cache"});
    if (!answer.ok) {
      part("state").textContent = await answer.text();
    } else {
      const version = answer.headers.get("ETag");
      if (!data || version !== data.version) {
        data = await answer.json();
        data.version = version;
        show();
      }
      part("state").textContent = "live";
    }
  } catch {
    part("state").textContent = "The dashboard does not answer.";
  }
  setTimeout(poll, document.hidden ? 5 * POLL_MS : POLL_MS);
}

async function listStudies() {
  const answer = await fetch("/frontier/studies");
  const studies = answer.ok ? await answer.json() : [];
  if (studies.length === 1) {
    location.replace(`/frontier?${query({study: studies[0]})}`);
    return;
  }
  part("state").textContent = answer.ok
    ? studies.length ? "Studies of this store" : "The store holds no study yet."
    : await answer.text();
  const links = studies.map((name) => {
    const line = element("p");
    line.append(element("a", name, {href: `/frontier?${query({study: name})}`}));
    return line;
  });
  part("note").replaceChildren(...links);
  part("content").hidden = false;
  document.querySelectorAll("main > section:not(#note)").forEach((place) => (place.hidden = true));
  if (!studies.length) setTimeout(listStudies, POLL_MS);
}

const inline = part("data");
if (inline) {
  data = JSON.parse(inline.textContent);
  show();
} else {
  part("links").append(
    element("a", "studies", {href: "/frontier"}),
    element("a", "Optuna dashboard", {href: "/dashboard"}),
  );
  if (study === null) listStudies();
  else poll();
}
