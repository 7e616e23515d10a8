// What the page does for the nodes of the pack. A prompt gives the same result without it.
//
// - Sample Edit: choosing a way writes its settings into the widgets, also where a subgraph shows them; seed is hidden
//   while nothing is drawn.
// - A new run clears the texts of the nodes that it runs again.
// - New nodes have the colour of their stage, and their advanced inputs are folded.
// - Titles and notes of the templates and the blueprint are in the page's language, from locales/*/main.json.

import { app } from "../../scripts/app.js"
import { api } from "../../scripts/api.js"

const CUSTOM = "custom"
const TEXT = "$$node-text-preview" // the page's own widget for a node's text
const SUBGRAPH_INPUT = -10 // the page's id of what a subgraph is given
const COLOURS = { model: "blue", clip: "green", tune: "purple", edit: "pale_blue", result: "brown" }
const STAGES = {
  TAVLoadDemoModel: "model", TAVInflateUNet: "model",
  TAVLoadVideo: "clip",
  TAVOneShotTune: "tune", TAVAnotherClip: "tune", TAVSaveTuned: "tune", TAVLoadTuned: "tune", TAVFindStrength: "tune",
  TAVDDIMInvert: "edit", TAVSample: "edit", TAVSteady: "edit", TAVWordHeatMaps: "edit",
  TAVSaveVideo: "result", TAVCompareVideos: "result", TAVEvaluate: "result", TAVPromptGrid: "result",
}

const widgetOf = (node, name) => node.widgets?.find((widget) => widget.name === name)

// The node that an input comes from, through the border of a subgraph.
function sourceOf(node, name) {
  const input = node.inputs?.find((entry) => entry.name === name)
  const link = input?.link == null ? null : node.graph?.getLink(input.link)
  if (!link) return null
  if (Number(link.origin_id) !== SUBGRAPH_INPUT) return node.graph.getNodeById(link.origin_id)
  const outer = outerOf(node)
  return outer ? sourceOf(outer, node.graph.inputs[link.origin_slot].name) : null
}

// The nodes of a graph and of the subgraphs in it, each with the id that the server knows it by.
function* everyNode(graph, path = "") {
  for (const node of graph?.nodes ?? []) {
    yield [`${path}${node.id}`, node]
    if (node.subgraph) yield* everyNode(node.subgraph, `${path}${node.id}:`)
  }
}

// The node whose subgraph holds this one.
function outerOf(node) {
  for (const [, other] of everyNode(app.rootGraph)) if (other.subgraph === node.graph) return other
  return null
}

function isBundled(node) {
  for (let source = node; source; source = sourceOf(source, "model")) {
    if (source.comfyClass === "TAVLoadDemoModel") return true
  }
  return false
}

// A widget, and the one of the outer node that stands for it, if a subgraph shows it.
function shownWidgets(node, name) {
  const input = node.inputs?.find((entry) => entry.name === name)
  const link = input?.link == null ? null : node.graph?.getLink(input.link)
  const outer = link && Number(link.origin_id) === SUBGRAPH_INPUT ? outerOf(node) : null
  return [widgetOf(node, name), outer && widgetOf(outer, node.graph.inputs[link.origin_slot].name)].filter(Boolean)
}

function fill(node, ways, way) {
  const values = ways[isBundled(node) ? "bundled" : "stable_diffusion"][way]
  for (const [name, value] of Object.entries(values ?? {})) {
    for (const widget of shownWidgets(node, name)) widget.value = value
  }
}

function hide(widget, hidden) {
  widget.hidden = hidden
  widget.options.hidden = hidden
}

// The new rendering of nodes folds advanced widgets by itself; the old one, where they are marked. There the menu of a
// right click on the node shows them.
function foldAdvanced(node) {
  if (app.extensionManager.setting.get("Comfy.Node.AlwaysShowAdvancedWidgets")) return
  for (const widget of node.widgets ?? []) {
    if (widget.options?.advanced) widget.advanced = true
  }
  if (!node.hasAdvancedWidgets?.()) return
  // The old rendering keeps the place of folded widgets free.
  node.getLayoutWidgets = () => node.widgets.filter((widget) => !widget.hidden && (!widget.advanced || node.showAdvanced))
  node.setSize(node.computeSize())
}

function showSeed(node) {
  const given = ["start_from", "eta", "sampler"].map((name) => widgetOf(node, name).value)
  const drawn = given[0] !== "inversion" || given[1] > 0 || given[2] === "lcm"
  hide(widgetOf(node, "seed"), !drawn)
  node.setDirtyCanvas?.(true, true)
}

function after(widget, act) {
  const before = widget.callback
  widget.callback = function (...values) {
    const result = before?.apply(this, values)
    act(values[0])
    return result
  }
}

const waysOf = (node) => node.constructor.nodeData.input.optional.way[1].ways
const watched = new WeakSet()

// Where a subgraph shows the way of a Sample Edit, choosing it there fills in the rest too. The page makes the widgets of
// a subgraph's node anew now and then, without an event, so that they are watched whenever they are read.
function setUpSubgraph(outer) {
  const own = Object.getOwnPropertyDescriptor(outer, "widgets")
  if (!own?.get) return watchWays(outer, outer.widgets ?? [])
  const get = () => {
    const widgets = own.get.call(outer)
    watchWays(outer, widgets)
    return widgets
  }
  Object.defineProperty(outer, "widgets", { ...own, get })
}

function watchWays(outer, widgets) {
  for (const input of outer.subgraph.inputs) {
    const widget = widgets.find((entry) => entry.name === input.name)
    if (!widget || watched.has(widget)) continue
    for (const id of input.linkIds) {
      const link = outer.subgraph.getLink(id)
      const node = link && outer.subgraph.getNodeById(link.target_id)
      if (node?.comfyClass !== "TAVSample" || node.inputs[link.target_slot]?.name !== "way") continue
      watched.add(widget)
      after(widget, (way) => {
        widgetOf(node, "way").value = way
        fill(node, waysOf(node), way)
        showSeed(node)
      })
    }
  }
}

function setUpSample(node, ways) {
  const [way, start] = ["way", "start_from"].map((name) => widgetOf(node, name))
  after(way, () => {
    fill(node, ways, way.value)
    showSeed(node)
  })
  after(start, () => {
    const values = ways.stable_diffusion[way.value]
    if (values && values.start_from !== start.value) way.value = CUSTOM
    showSeed(node)
  })
  for (const name of ["eta", "sampler"]) after(widgetOf(node, name), () => showSeed(node))
  const configured = node.onConfigure
  node.onConfigure = function (...values) {
    const result = configured?.apply(this, values)
    showSeed(node)
    return result
  }
  showSeed(node)
}

let translations = {} // for each language: our texts by their English ones

async function readTranslations() {
  const languages = await (await api.fetchApi("/i18n")).json()
  for (const [language, texts] of Object.entries(languages)) translations[language] = texts.tuneAVideo ?? {}
}

const translated = (text) => translations[app.extensionManager.setting.get("Comfy.Locale")]?.[text] ?? text

// A workflow file as it is opened. One without nodes of the pack is left alone, as is a text that is not ours.
function translateFile({ nodes, groups, definitions }) {
  const subgraphs = definitions?.subgraphs ?? []
  const all = [nodes, ...subgraphs.map((subgraph) => subgraph.nodes)].flat()
  if (!all.some((node) => node.type in STAGES)) return
  for (const part of [...all, ...(groups ?? []), ...subgraphs.flatMap((subgraph) => subgraph.groups ?? [])]) {
    if (part.title) part.title = translated(part.title)
    if (part.type === "MarkdownNote") part.widgets_values = part.widgets_values.map(translated)
  }
  const outer = nodes.filter((node) => subgraphs.some((subgraph) => subgraph.id === node.type))
  translateLabels([...outer, ...subgraphs])
}

function translateLabels(parts) {
  for (const slot of parts.flatMap((part) => [...part.inputs, ...(part.widgets ?? [])])) {
    if (slot.label) slot.label = translated(slot.label)
    if (slot.element?.placeholder) slot.element.placeholder = translated(slot.element.placeholder)
  }
}

// The blueprint as it is taken from the node library.
function translateSubgraph(outer) {
  const configured = outer.onConfigure
  outer.onConfigure = function (...values) {
    const result = configured?.apply(this, values)
    if (this.subgraph.nodes.some((node) => node.comfyClass in STAGES)) {
      this.title = translated(this.title)
      translateLabels([this.subgraph, this])
    }
    return result
  }
}

function clearTexts({ detail }) {
  const cached = new Set((detail?.nodes ?? []).map(String))
  for (const [id, node] of everyNode(app.rootGraph)) {
    const text = node.comfyClass in STAGES && !cached.has(id) && widgetOf(node, TEXT)
    if (text) text.value = ""
  }
}

app.registerExtension({
  name: "TuneAVideo",
  async setup() {
    api.addEventListener("execution_cached", clearTexts)
    await readTranslations()
  },
  beforeConfigureGraph(file) {
    translateFile(file)
  },
  nodeCreated(node) {
    if (node.subgraph) {
      setUpSubgraph(node)
      translateSubgraph(node)
    }
    if (node.comfyClass?.startsWith("TAV")) foldAdvanced(node)
    const colours = window.LGraphCanvas?.node_colors?.[COLOURS[STAGES[node.comfyClass]]]
    if (!colours) return
    Object.assign(node, { color: colours.color, bgcolor: colours.bgcolor })
    if (node.comfyClass === "TAVSample") setUpSample(node, waysOf(node))
  },
})
