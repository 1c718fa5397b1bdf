// What the page shows, as its address says it: a link shows the same to somebody else.

const PAGES = ["fleet", "machine", "strangers", "images", "server"];
export const COLUMNS = ["attention", "machine", "mac", "address", "cluster", "role", "stage", "since", "boots", "from", "error"];
export const PAGE_SIZES = [50, 100, 200];

const DEFAULT = { page: "fleet", mac: null, q: "", clusters: [], stages: [], sort: "attention", isDescending: false, number: 1, size: 50 };

/** Returns the view of an address. What it does not understand is left out. */
export function parse(search) {
  const query = new URLSearchParams(search);
  const mac = query.get("machine");
  const page = mac !== null ? "machine" : query.get("page");
  const sort = query.get("sort") ?? "";
  const column = sort.replace(/^-/, "");
  const number = Number(query.get("n"));
  const size = Number(query.get("size"));
  return {
    page: PAGES.includes(page) ? page : DEFAULT.page,
    mac: mac === null ? null : mac.trim().toLowerCase().replaceAll("-", ":"),
    q: query.get("q") ?? "",
    clusters: query.getAll("cluster"),
    stages: query.getAll("stage"),
    sort: COLUMNS.includes(column) ? column : DEFAULT.sort,
    isDescending: sort.startsWith("-"),
    number: Number.isInteger(number) && number > 0 ? number : 1,
    size: PAGE_SIZES.includes(size) ? size : DEFAULT.size,
  };
}

/** Returns the address of a view. */
export function format(view) {
  const query = new URLSearchParams();
  if (view.page === "machine") query.set("machine", view.mac);
  else if (view.page !== "fleet") query.set("page", view.page);
  else {
    if (view.q) query.set("q", view.q);
    for (const cluster of view.clusters) query.append("cluster", cluster);
    for (const stage of view.stages) query.append("stage", stage);
    if (view.sort !== DEFAULT.sort || view.isDescending) query.set("sort", (view.isDescending ? "-" : "") + view.sort);
    if (view.number !== 1) query.set("n", view.number);
    if (view.size !== DEFAULT.size) query.set("size", view.size);
  }
  const text = query.toString().replaceAll("%3A", ":");
  return text === "" ? "/" : `/?${text}`;
}

export const isFiltered = (view) => view.q !== "" || view.clusters.length > 0 || view.stages.length > 0;

/** Returns the list without the value, or with it. */
export const toggled = (list, value) => (list.includes(value) ? list.filter((other) => other !== value) : [...list, value]);
