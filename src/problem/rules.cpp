// SPDX-License-Identifier: Apache-2.0
#include "problem/rules.h"

#include <algorithm>
#include <charconv>

#include "problem/reject.h"
#include "tilewise/rules.h"

namespace tilewise {
namespace {

constexpr auto kCount = ParameterKind::kCount;
constexpr auto kSize = ParameterKind::kSize;
constexpr auto kPositive = ParameterKind::kPositive;

const std::vector<Rule>& catalogue() {
  static const std::vector<Rule> rules = {
      {"causal",
       false,
       {},
       "k - key_offset <= q - query_offset + (kv_length - query_length)",
       "keys up to the query, the last query aligned with the last key"},
      {"causal-top-left", false, {}, "k <= q", "keys up to the query, by global position"},
      {"window",
       false,
       {{"left", kCount}, {"right", kCount}},
       "-left <= k - key_offset - (q - query_offset) - (kv_length - query_length) <= right",
       "keys from left before to right after the query, aligned as causal"},
      {"sink-window",
       false,
       {{"sinks", kCount, "4"}, {"window", kCount, "1024"}},
       "k <= q and (k < sinks or q - k <= window)",
       "the first keys and the last ones (StreamingLLM)"},
      {"document", false, {}, "doc[q] == doc[k]", "packed documents, each sees itself"},
      {"document-causal",
       false,
       {},
       "doc[q] == doc[k] and k <= q",
       "packed documents, causal inside each"},
      {"document-span",
       false,
       {},
       "start[q] <= k <= q",
       "the same by the position where the document of q starts"},
      {"padding", false, {}, "valid[b, k] != 0", "keys that are no padding"},
      {"padding-causal", false, {}, "k <= q and valid[b, k] != 0", "causal without padding"},
      {"prefix-lm",
       false,
       {},
       "k <= q or k < prefix[b]",
       "causal, but all see the prefix (T5, PaliGemma)"},
      {"image-bidirectional",
       false,
       {},
       "k <= q or image[q] == image[k] and image[q] >= 0",
       "causal, but an image sees all of itself (Gemma 3)"},
      {"chunked",
       false,
       {{"chunk", kSize, "8192"}},
       "k <= q and q // chunk == k // chunk",
       "causal inside of chunks (Llama 4)"},
      {"block-causal",
       false,
       {{"block", kSize, "64"}},
       "k // block <= q // block",
       "causal by blocks (streaming speech, video)"},
      {"level-causal", false, {}, "level[k] <= level[q]", "causal by levels (VAR)"},
      {"block-diffusion",
       false,
       {{"length", kSize}, {"block", kSize, "32"}},
       "q % length // block == k % length // block and (q < length) == (k < length)"
       " or k % length // block < q % length // block and q < length <= k"
       " or k % length // block <= q % length // block and length <= q and length <= k",
       "noisy half, then clean half of a sequence (BD3-LM)"},
      {"dilated-window",
       false,
       {{"window", kCount, "256"}, {"dilation", kSize, "4"}},
       "abs(q - k) <= window and (q - k) % dilation == 0",
       "every dilation-th key of a window"},
      {"longformer",
       false,
       {{"window", kCount, "512"}, {"global", kCount, "16"}},
       "abs(q - k) <= window or q < global or k < global",
       "a window and global first positions (Longformer)"},
      {"longformer-marked",
       false,
       {{"window", kCount, "512"}},
       "abs(q - k) <= window or marked[q] != 0 or marked[k] != 0",
       "a window and global positions anywhere"},
      {"bigbird",
       false,
       {{"block", kSize, "64"}, {"window", kCount, "1"}, {"global", kCount, "2"}},
       "abs(q // block - k // block) <= window or q // block < global or k // block < global"
       " or random[q // block, k // block] != 0",
       "blocks: window, global and random ones (BigBird)"},
      {"strided",
       false,
       {{"stride", kSize, "128"}, {"summary", kCount, "1"}},
       "k <= q and (q - k <= stride or k % stride >= stride - summary)",
       "a window and the last positions of each stride (Sparse Transformer)"},
      {"natten",
       false,
       {{"length", kSize}, {"radius", kCount}},
       "abs(min(max(q, radius), length - 1 - radius) - k) <= radius",
       "neighbourhood in one dimension (NATTEN)"},
      {"natten-2d",
       false,
       {{"width", kSize}, {"height", kSize}, {"radius", kCount}},
       "abs(min(max(q % width, radius), width - 1 - radius) - k % width) <= radius"
       " and abs(min(max(q // width, radius), height - 1 - radius) - k // width) <= radius",
       "neighbourhood in two dimensions, row by row"},
      {"natten-3d",
       false,
       {{"width", kSize}, {"height", kSize}, {"depth", kSize}, {"radius", kCount}},
       "abs(min(max(q % width, radius), width - 1 - radius) - k % width) <= radius"
       " and abs(min(max(q // width % height, radius), height - 1 - radius)"
       " - k // width % height) <= radius"
       " and abs(min(max(q // (width * height), radius), depth - 1 - radius)"
       " - k // (width * height)) <= radius",
       "neighbourhood in three dimensions"},
      {"sliding-tile",
       false,
       {{"tile", kSize}, {"columns", kSize}, {"rows", kSize}, {"radius", kCount, "1"}},
       "abs(min(max(q // tile % columns, radius), columns - 1 - radius)"
       " - k // tile % columns) <= radius"
       " and abs(min(max(q // tile // columns, radius), rows - 1 - radius)"
       " - k // tile // columns) <= radius",
       "neighbourhood of tiles; tokens are stored tile by tile (STA)"},
      {"swin",
       false,
       {{"width", kSize}, {"window", kSize, "7"}},
       "q % width // window == k % width // window"
       " and q // width // window == k // width // window",
       "square windows of an image (Swin)"},
      {"swin-shifted",
       false,
       {{"width", kSize}, {"height", kSize}, {"window", kSize, "7"}, {"shift", kCount, "3"}},
       "q % width // window == k % width // window"
       " and q // width // window == k // width // window"
       " and (q % width < width - shift) == (k % width < width - shift)"
       " and (q // width < height - shift) == (k // width < height - shift)",
       "the same after a cyclic shift: what was not adjacent is cut"},
      {"joint-text-image",
       false,
       {{"text", kCount, "256"}},
       "(q < text or k < text or image[q] == image[k]) and valid[b, k] != 0",
       "text sees all, each image itself and the text (FLUX, SD3)"},
      {"flamingo", false, {}, "first[k] <= q < last[k]", "the queries that an image is given to"},
      {"tree",
       false,
       {},
       "k < prefix or prefix <= q and ancestor[max(q - prefix, 0), max(k - prefix, 0)] != 0",
       "a tree of drafts behind a prefix (Medusa, EAGLE)"},
      {"shared-prefix",
       false,
       {},
       "start[q] <= k <= q or prefix_first[q] <= k < prefix_last[q]",
       "packed continuations of prefixes that they share"},
      {"svg-spatial",
       false,
       {{"prompt", kCount}, {"window", kCount}},
       "k < prompt or q < prompt or abs(q - k) < window",
       "SparseVideoGen, spatial head"},
      {"svg-temporal",
       false,
       {{"prompt", kCount}, {"frame", kSize}, {"window", kCount}},
       "k < prompt or q < prompt"
       " or abs((q - prompt) % frame - (k - prompt) % frame) < window",
       "SparseVideoGen, temporal head"},
      {"block-sparse",
       false,
       {{"block", kSize, "128"}},
       "layout[h, q // block, k // block] != 0",
       "the blocks that a table selects (NSA, VSA, DSA)"},

      {"softcap",
       true,
       {{"cap", kPositive, "50"}},
       "cap * tanh(s / cap)",
       "scores inside -cap .. cap (Gemma 2)"},
      {"alibi", true, {}, "s - slope[h] * (q - k)", "a penalty by distance (ALiBi)"},
      {"relative-bias",
       true,
       {{"reach", kCount}},
       "s + bias[h, min(max(k - q, -reach), reach) + reach]",
       "a learned bias by distance"},
      {"bucket-bias",
       true,
       {{"reach", kCount}},
       "s + bias[h, bucket[min(max(k - q, -reach), reach) + reach]]",
       "a learned bias by bucket of the distance (T5)"},
      {"window-bias",
       true,
       {{"width", kSize}, {"window", kSize, "7"}},
       "s + bias[h, q // width % window - k // width % window + window - 1,"
       " q % width % window - k % width % window + window - 1]",
       "a learned bias by offset inside a window (Swin)"},
      {"disentangled",
       true,
       {{"reach", kCount}},
       "s + content_position[b, h, q, min(max(q - k, -reach), reach) + reach]"
       " + position_content[b, h, k, min(max(k - q, -reach), reach) + reach]",
       "content and position against each other (DeBERTa)"},
      {"graph-bias",
       true,
       {},
       "s + bias[h, distance[b, q, k]]",
       "a learned bias by distance in a graph (Graphormer)"},
      {"kerple-log",
       true,
       {},
       "s - slope[h] * log(1 + rate[h] * abs(q - k))",
       "a logarithmic penalty by distance (KERPLE)"},
      {"positional-kernel",
       true,
       {{"reach", kCount}},
       "s + kernel[h, min(abs(q - k), reach)]",
       "any function of the distance as a table (Sandwich, FIRE)"},
      {"relu", true, {}, "log(max(s, 0))", "relu in place of exp, normalised"},
  };
  return rules;
}

Mask mask_of(const char* name, const std::vector<int64_t>& arguments) {
  std::vector<std::string> texts;
  for (const int64_t argument : arguments) texts.push_back(std::to_string(argument));
  return Mask(make_rule(*find_rule(name, false), texts));
}

}  // namespace

std::span<const Rule> rules() { return catalogue(); }

const Rule* find_rule(std::string_view name, bool is_score) {
  const auto found = std::find_if(catalogue().begin(), catalogue().end(), [&](const Rule& rule) {
    return rule.name == name && rule.is_score == is_score;
  });
  return found == catalogue().end() ? nullptr : &*found;
}

Mask causal() { return mask_of("causal", {}); }
Mask causal_top_left() { return mask_of("causal-top-left", {}); }
Mask window(int64_t left, int64_t right) { return mask_of("window", {left, right}); }
Mask prefix_lm() { return mask_of("prefix-lm", {}); }
Mask sink_window(int64_t sinks, int64_t window) { return mask_of("sink-window", {sinks, window}); }
Mask document() { return mask_of("document", {}); }
Mask document_causal() { return mask_of("document-causal", {}); }
Mask padding() { return mask_of("padding", {}); }
Mask chunked(int64_t chunk) { return mask_of("chunked", {chunk}); }
Mask block_causal(int64_t block) { return mask_of("block-causal", {block}); }
Mask dilated_window(int64_t window, int64_t dilation) {
  return mask_of("dilated-window", {window, dilation});
}
Mask longformer(int64_t window, int64_t global) { return mask_of("longformer", {window, global}); }
Mask bigbird(int64_t block, int64_t window, int64_t global) {
  return mask_of("bigbird", {block, window, global});
}
Mask block_sparse(int64_t block) { return mask_of("block-sparse", {block}); }

Score softcap(double cap) {
  char buffer[32];
  const std::string text(buffer, std::to_chars(buffer, buffer + sizeof buffer, cap).ptr);
  return Score(make_rule(*find_rule("softcap", true), {text}));
}
Score alibi() { return Score(make_rule(*find_rule("alibi", true), {})); }
Score relative_bias(int64_t reach) {
  return Score(make_rule(*find_rule("relative-bias", true), {std::to_string(reach)}));
}

}  // namespace tilewise
