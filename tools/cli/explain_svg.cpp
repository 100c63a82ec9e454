// SPDX-License-Identifier: Apache-2.0
#include "cli/explain_svg.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <tuple>
#include <vector>

#include "cli/output.h"
#include "engine/explain.h"
#include "engine/plan_data.h"
#include "expr/visible_pairs.h"

namespace tilewise::cli {
namespace {

constexpr size_t kShownClasses = 4;
constexpr int64_t kPairs = 128;  // up to here a cell is a pair
constexpr int64_t kMostCells = 200;

// Lengths in user units, 1/96 inch.
constexpr int kPanel = 320;     // the longer side of a panel
constexpr int kShortest = 24;   // the shorter side is at least this
constexpr int kLabelled = 100;  // a panel of that height has room for a label beside it
constexpr int kLeft = 34, kHead = 64, kGap = 40, kCaption = 36, kLegend = 30;
constexpr int kLeastWidth = 400;
constexpr int kCharacter = 8;  // of the title, about

constexpr const char* kStyle =
    "text{font:12px sans-serif;fill:#222}.title{font-weight:bold;font-size:13px}"
    ".small{font-size:11px;fill:#555}.empty{fill:#fff;stroke:#777}"
    ".full{fill:#0b5fa5}.partial{fill:#9cc5e6}";

std::string escaped(const std::string& text) {
  std::string result;
  for (const char c : text) {
    switch (c) {
      case '&':
        result += "&amp;";
        break;
      case '<':
        result += "&lt;";
        break;
      case '>':
        result += "&gt;";
        break;
      case '"':
        result += "&quot;";
        break;
      default:
        result += c;
    }
  }
  return result;
}

// Masks are ASCII, so a cut splits no character.
std::string shortened(const std::string& text, size_t characters) {
  return text.size() <= characters ? text : text.substr(0, characters - 3) + "...";
}

bool shows_pairs(const Schedule::Data& schedule) {
  return std::max(schedule.step.query_length, schedule.step.kv_length) <= kPairs;
}

// Cells of whole tiles, few enough to be seen.
int64_t cell_of(int64_t tile, int64_t length) {
  const int64_t tiles = (length + tile - 1) / tile;
  return tile * ((tiles + kMostCells - 1) / kMostCells);
}

expr::TileGrid picture_grid(const Schedule::Data& schedule) {
  expr::TileGrid grid = grid_of(schedule.step);
  const bool pairs = shows_pairs(schedule);
  // Few queries have no tiles of queries.
  const int64_t queries = pairs || schedule.decodes ? 1 : schedule.geometry.query_tile;
  const int64_t keys = pairs ? 1 : schedule.geometry.key_tile;
  grid.tile_queries = std::max<int64_t>(cell_of(queries, grid.queries), 1);
  grid.tile_keys = std::max<int64_t>(cell_of(keys, grid.keys), 1);
  return grid;
}

std::string visible_text(const expr::VisiblePairs& visible, const expr::TileGrid& grid) {
  const double all = static_cast<double>(grid.queries) * static_cast<double>(grid.keys);
  return fmt::format("{}{:.3g}% visible", visible.is_exact ? "" : "about ",
                     all > 0 ? 100 * static_cast<double>(visible.pairs) / all : 0);
}

// Runs of one kind, in cells.
std::string path_of(const TileRows& rows, TileKind kind) {
  std::string path;
  for (int64_t row = 0; row < rows.rows; ++row) {
    for (int64_t i = rows.begin[row]; i < rows.begin[row + 1]; ++i) {
      const TileRun& run = rows.runs[i];
      if (run.kind != kind) continue;
      fmt::format_to(std::back_inserter(path), "M{} {}h{}v1H{}z", run.first, row,
                     run.last - run.first, run.first);
    }
  }
  return path;
}

struct PanelSize {
  int width, height;
};
PanelSize panel_size(const expr::TileGrid& grid) {
  const double longer = static_cast<double>(std::max<int64_t>({grid.queries, grid.keys, 1}));
  const auto side = [&](int64_t length) {
    return std::max(kShortest, static_cast<int>(kPanel * static_cast<double>(length) / longer));
  };
  return {side(grid.keys), side(grid.queries)};
}

// With its upper left corner at (x, y).
std::string panel(const Schedule::Data& schedule, size_t index, const expr::TileGrid& grid, int x,
                  int y) {
  const HeadClass& one = schedule.heads.classes[index];
  const expr::MaskTiles tiles = expr::classify(one.mask, schedule.mask_values, grid);
  const TileRows rows = tiles.rows.view();
  const PanelSize size = panel_size(grid);
  std::string text =
      fmt::format("<rect class=\"empty\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"/>\n", x, y,
                  size.width, size.height);
  text += fmt::format(
      "<svg x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" viewBox=\"0 0 {} {}\" "
      "preserveAspectRatio=\"none\" shape-rendering=\"crispEdges\">\n",
      x, y, size.width, size.height, std::max<int64_t>(grid.columns(), 1),
      std::max<int64_t>(grid.rows(), 1));
  text += fmt::format("<path class=\"full\" d=\"{}\"/>\n", path_of(rows, TileKind::kFull));
  text += fmt::format("<path class=\"partial\" d=\"{}\"/>\n</svg>\n",
                      path_of(rows, TileKind::kPartial));
  text += fmt::format("<text class=\"small\" x=\"{}\" y=\"{}\">keys 0 to {}</text>\n", x, y - 5,
                      grid.keys - 1);
  if (size.height >= kLabelled) {
    text += fmt::format(
        "<text class=\"small\" text-anchor=\"end\" transform=\"translate({} {}) rotate(-90)\">"
        "queries 0 to {}</text>\n",
        x - 6, y, grid.queries - 1);
  }
  text += fmt::format(
      "<text x=\"{}\" y=\"{}\">batch {}, head {}{}: {}</text>\n", x, y + size.height + 16,
      one.batch, one.head, one.heads > 1 ? fmt::format(" and {} more", one.heads - 1) : "",
      visible_text(shows_pairs(schedule) ? expr::visible_pairs(tiles, grid) : one.pairs, grid));
  if (!shows_pairs(schedule) && !schedule.decodes) {
    const TileCounts counts = forward_counts(schedule, schedule.forward_tiles[index]);
    text += fmt::format(
        "<text class=\"small\" x=\"{}\" y=\"{}\">tiles: {} full, {} partial, {} empty</text>\n", x,
        y + size.height + 30, counts.full, counts.partial, counts.empty());
  }
  return text;
}

std::string cell_text(const Schedule::Data& schedule, const expr::TileGrid& grid) {
  if (shows_pairs(schedule)) return "a cell is a pair";
  if (schedule.decodes) return fmt::format("a cell is 1 x {} pairs", grid.tile_keys);
  const int64_t tiles = grid.tile_queries / schedule.geometry.query_tile *
                        (grid.tile_keys / schedule.geometry.key_tile);
  return fmt::format("a cell is {} of {} x {}",
                     tiles == 1 ? "a tile" : fmt::format("{} tiles", tiles),
                     schedule.geometry.query_tile, schedule.geometry.key_tile);
}

// Two lines above the panels.
std::string head(const Plan& plan, const Schedule::Data& schedule, const expr::TileGrid& grid,
                 int width) {
  const size_t classes = schedule.heads.classes.size();
  const int x = kLeft - 20;
  const std::string mask = shortened(one_line(plan.problem().mask.text()),
                                     static_cast<size_t>((width - x) / kCharacter));
  return fmt::format("<text class=\"title\" x=\"{}\" y=\"18\">{}</text>\n", x, escaped(mask)) +
         fmt::format("<text class=\"small\" x=\"{}\" y=\"35\">{} queries x {} keys; {}{}</text>\n",
                     x, grid.queries, grid.keys, cell_text(schedule, grid),
                     classes > kShownClasses
                         ? fmt::format("; {} more masks", classes - kShownClasses)
                         : "");
}

std::string legend(int x, int y) {
  std::string text;
  for (const auto& [name, meaning, offset] :
       {std::tuple{"full", "every pair visible", 0}, std::tuple{"partial", "some", 150},
        std::tuple{"empty", "none: never visited", 220}}) {
    text += fmt::format(
        "<rect class=\"{}\" x=\"{}\" y=\"{}\" width=\"10\" height=\"10\"/>"
        "<text class=\"small\" x=\"{}\" y=\"{}\">{}</text>\n",
        name, x + offset, y, x + offset + 15, y + 9, meaning);
  }
  return text;
}

}  // namespace

std::string explain_svg(const Plan& plan, const Schedule& schedule) {
  const Schedule::Data& data = schedule.data();
  const expr::TileGrid grid = picture_grid(data);
  const PanelSize size = panel_size(grid);
  const int panels = static_cast<int>(std::min(data.heads.classes.size(), kShownClasses));
  const int width = std::max(kLeastWidth, kLeft + panels * (size.width + kGap));
  const int height = kHead + size.height + kCaption + kLegend;
  std::string text = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{1}\" "
      "viewBox=\"0 0 {0} {1}\">\n<style>{2}</style>\n"
      "<rect width=\"{0}\" height=\"{1}\" fill=\"#fff\"/>\n",
      width, height, kStyle);
  text += head(plan, data, grid, width);
  for (int i = 0; i < panels; ++i) {
    text += panel(data, static_cast<size_t>(i), grid, kLeft + i * (size.width + kGap), kHead);
  }
  return text + legend(kLeft, height - 20) + "</svg>\n";
}

}  // namespace tilewise::cli
