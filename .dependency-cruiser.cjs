// The ladder of ARCHITECTURE.md as configuration: a folder may import only from lower rungs and only through index.ts.
const ladder = ["gpu|formats|storage|processor", "kernels", "models", "engine", "train", "api", "app"];
const rungs = ladder.map((rung, i) => ({
  name: `ladder-${i}`,
  severity: "error",
  comment: "import only from lower rungs",
  from: { path: `^src/(${rung})/`, pathNot: "\\.(test|cases)\\.tsx?$" },
  to: {
    path: `^src/(${[...ladder.slice(i + 1), ...(i ? [] : [rung])].join("|") || "none"})/`,
    ...(i ? {} : { pathNot: "^src/$1/" }),
  },
}));
const doors = {
  name: "doors",
  severity: "error",
  comment: "a folder is entered only through its index.ts",
  from: { path: "^src/([^/]+)/", pathNot: "\\.test\\.tsx?$" },
  to: { path: "^src/([^/]+)/", pathNot: ["^src/$1/", "^src/[^/]+/index\\.ts$"] },
};
const owner = (name, folder, target) => ({
  name,
  severity: "error",
  from: { path: `^src/(?!${folder}/)`, pathNot: "\\.test\\.tsx?$" },
  to: { path: target },
});
module.exports = {
  forbidden: [
    ...rungs,
    doors,
    { name: "no-cycles", severity: "error", from: {}, to: { circular: true } },
    {
      name: "app-uses-api",
      severity: "error",
      from: { path: "^src/app/" },
      to: { path: "^src/(?!app/|api/|errors|training_records)" },
    },
    {
      name: "page-side",
      severity: "error",
      comment: "only the worker may load the engine",
      from: { path: "^src/api/(?!worker)", pathNot: "\\.test\\.ts$" },
      to: { path: "^src/(?!api/|errors|training_records)|^src/api/worker" },
    },
    owner("comlink", "api", "node_modules/comlink"),
    owner("idb", "storage", "node_modules/idb-keyval"),
    owner("preact", "app", "node_modules/(preact|@preact)"),
    owner("wgsl", "kernels", "^shaders/"),
  ],
  options: {
    tsPreCompilationDeps: true,
    doNotFollow: { path: "node_modules" },
    tsConfig: { fileName: "tsconfig.json" },
    enhancedResolveOptions: { extensions: [".ts", ".tsx", ".js", ".wgsl"] },
  },
};
