// SPDX-License-Identifier: Apache-2.0
// The 28 masks that people use (and three that prove nothing), at 2048 queries and keys.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/random.h"
#include "expr/mask_builder.h"

namespace tilewise::expr {

class MaskZoo {
 public:
  static constexpr int64_t kLength = 2048;
  struct Case {
    std::string name;
    MaskBuilder builder;
    Expression mask;
  };

  // Images are image_width wide; the masks of 2-D windows use it.
  explicit MaskZoo(int64_t image_width) : width_(image_width), random_(5) {
    make_tables();
    add_bands();
    add_documents();
    add_sparse();
    add_images();
    add_rest();
  }
  std::vector<std::unique_ptr<Case>> cases;

 private:
  using Table = std::shared_ptr<const IntTable>;

  template <class Mask>
  void add(const std::string& name, const Mask& mask) {
    auto entry = std::make_unique<Case>();
    MaskBuilder& m = entry->builder;
    const Term root = mask(m, m.q(), m.k());
    entry->name = name;
    entry->mask = m.expression(root, name);
    m.values.query_length = m.values.kv_length = kLength;
    cases.push_back(std::move(entry));
  }
  int32_t below(int64_t n) { return static_cast<int32_t>(random_.between(0, n - 1)); }
  void shuffle(std::vector<int32_t>& v) {
    for (size_t i = v.size(); i > 1; --i)
      std::swap(v[i - 1], v[static_cast<size_t>(below(static_cast<int64_t>(i)))]);
  }

  void make_tables() {
    std::vector<int32_t> cuts{0};
    while (cuts.size() < 13) {
      const int32_t cut = 1 + below(kLength - 1);
      if (std::find(cuts.begin(), cuts.end(), cut) == cuts.end()) cuts.push_back(cut);
    }
    std::sort(cuts.begin(), cuts.end());
    std::vector<int32_t> id(13), document(kLength), start(kLength), shuffled(kLength);
    std::vector<int32_t> global(kLength), image(kLength, -1), valid(kLength), order(kLength);
    std::vector<int32_t> blocks(kLength / 64), block_order(kLength);
    for (size_t i = 0; i < id.size(); ++i) id[i] = static_cast<int32_t>(i);
    shuffle(id);
    for (int32_t i = 0; i < kLength; ++i) {
      const auto at = static_cast<size_t>(i);
      document[at] =
          static_cast<int32_t>(std::upper_bound(cuts.begin(), cuts.end(), i) - cuts.begin()) - 1;
      start[at] = cuts[static_cast<size_t>(document[at])];
      shuffled[at] = id[static_cast<size_t>(document[at])];
      valid[at] = i < 1800;
      order[at] = i;
    }
    for (const size_t i : {0, 1, 2, 700, 1500}) global[i] = 1;
    std::fill(image.begin() + 100, image.begin() + 400, 1);
    std::fill(image.begin() + 900, image.begin() + 1300, 2);
    std::fill(image.begin() + 1700, image.begin() + 1760, 3);
    shuffle(order);
    for (size_t i = 0; i < blocks.size(); ++i) blocks[i] = static_cast<int32_t>(i);
    shuffle(blocks);
    for (size_t i = 0; i < block_order.size(); ++i)
      block_order[i] = blocks[i / 64] * 64 + static_cast<int32_t>(i % 64);
    std::vector<int32_t> parent(256, -1), ancestor(256 * 256), random_blocks(32 * 32);
    for (int32_t i = 1; i < 256; ++i) parent[static_cast<size_t>(i)] = below(i);
    for (int32_t i = 0; i < 256; ++i) {
      for (int32_t j = i; j >= 0; j = parent[static_cast<size_t>(j)])
        ancestor[static_cast<size_t>(i * 256 + j)] = 1;
    }
    for (int32_t& x : random_blocks) x = below(32) < 3;
    document_ = int_table(document);
    start_ = int_table(start);
    shuffled_ = int_table(shuffled);
    global_ = int_table(global);
    image_ = int_table(image);
    valid_ = int_table(valid);
    order_ = int_table(order);
    block_order_ = int_table(block_order);
    ancestor_ = int_table(ancestor, {256, 256});
    random_blocks_ = int_table(random_blocks, {32, 32});
  }

  void add_bands() {
    using M = MaskBuilder;
    add("causal", [](M&, Term q, Term k) { return q >= k; });
    add("causal, bottom right", [](M&, Term q, Term k) { return q + 300 >= k; });
    add("causal window", [](M&, Term q, Term k) { return q >= k && q - k <= 256; });
    add("window both ways", [](M&, Term q, Term k) { return abs(q - k) <= 128; });
    add("sinks and window", [](M&, Term q, Term k) { return q >= k && (k < 4 || q - k <= 256); });
    add("prefix", [](M&, Term q, Term k) { return q >= k || k < 500; });
    add("chunked causal", [](M&, Term q, Term k) { return q >= k && q / 500 == k / 500; });
    add("block causal", [](M&, Term q, Term k) { return q / 64 >= k / 64; });
    add("dilated window", [](M&, Term q, Term k) { return abs(q - k) <= 256 && (q - k) % 4 == 0; });
    add("strided", [](M&, Term q, Term k) { return q >= k && (q - k <= 128 || k % 128 == 127); });
  }

  void add_documents() {
    using M = MaskBuilder;
    const auto same = [](M& m, const Table& table, Term q, Term k) {
      return m.look_up("ids", table, {q}) == m.look_up("ids", table, {k});
    };
    add("documents", [&](M& m, Term q, Term k) { return same(m, document_, q, k); });
    add("documents, causal",
        [&](M& m, Term q, Term k) { return same(m, document_, q, k) && q >= k; });
    add("documents, causal, by start",
        [&](M& m, Term q, Term k) { return k >= m.look_up("start", start_, {q}) && q >= k; });
    add("documents, shuffled", [&](M& m, Term q, Term k) { return same(m, shuffled_, q, k); });
    add("padding and causal",
        [&](M& m, Term q, Term k) { return q >= k && m.look_up("valid", valid_, {k}) == 1; });
    add("images or causal", [&](M& m, Term q, Term k) {
      const Term at_q = m.look_up("image", image_, {q});
      return q >= k || (at_q == m.look_up("image", image_, {k}) && at_q >= 0);
    });
  }

  void add_sparse() {
    using M = MaskBuilder;
    add("Longformer", [&](M& m, Term q, Term k) {
      return abs(q - k) <= 128 || m.look_up("global", global_, {q}) == 1 ||
             m.look_up("global", global_, {k}) == 1;
    });
    add("BigBird", [&](M& m, Term q, Term k) {
      return abs(q / 64 - k / 64) <= 1 || k < 128 || q < 128 ||
             m.look_up("blocks", random_blocks_, {q / 64, k / 64}) > 0;
    });
  }

  void add_images() {
    using M = MaskBuilder;
    const int64_t w = width_, height = (kLength + w - 1) / w;
    add("Swin windows", [w](M&, Term q, Term k) {
      const auto window = [w](Term i) { return i / w / 8 * (w / 8) + i % w / 8; };
      return window(q) == window(k);
    });
    const auto near = [w, height](Term qx, Term qy, Term kx, Term ky) {
      return abs(clamp(qx, 6, w - 7) - kx) <= 6 && abs(clamp(qy, 6, height - 7) - ky) <= 6;
    };
    add("neighbourhoods, rows",
        [&](M&, Term q, Term k) { return near(q % w, q / w, k % w, k / w); });
    add("neighbourhoods, tiles", [&](M&, Term q, Term k) {
      const auto x = [w](Term i) { return i / 64 % (w / 8) * 8 + i % 64 % 8; };
      const auto y = [w](Term i) { return i / 64 / (w / 8) * 8 + i % 64 / 8; };
      return near(x(q), y(q), x(k), y(k));
    });
  }

  void add_rest() {
    using M = MaskBuilder;
    add("block diffusion", [](M&, Term q, Term k) {
      const Term qn = q < 1024, kn = k < 1024, qb = q % 1024 / 64, kb = k % 1024 / 64;
      return (qb == kb && !((qn && !kn) || (!qn && kn))) || (kb < qb && qn && !kn) ||
             (qb >= kb && !qn && !kn);
    });
    add("text and image",
        [](M&, Term q, Term k) { return q < 256 || k < 256 || abs(q / 128 - k / 128) <= 1; });
    add("tree", [&](M& m, Term q, Term k) {
      const Term is_ancestor =
          m.look_up("ancestor", ancestor_, {clamp(q - 1792, 0, 255), clamp(k - 1792, 0, 255)});
      return k < 1792 || (k >= 1792 && q >= 1792 && is_ancestor > 0);
    });
    add("permuted causal", [&](M& m, Term q, Term k) {
      return m.look_up("order", order_, {q}) >= m.look_up("order", order_, {k});
    });
    add("permuted blocks, causal", [&](M& m, Term q, Term k) {
      return m.look_up("order", block_order_, {q}) >= m.look_up("order", block_order_, {k});
    });
    add("temporal",
        [](M&, Term q, Term k) { return q < 64 || k < 64 || abs(q % 248 - k % 248) <= 16; });
    add("hashed", [](M&, Term q, Term k) { return (q * 7 + k * 13) % 5 == 0; });
  }

  int64_t width_;
  Random random_;
  Table document_, start_, shuffled_, global_, image_, valid_, order_, block_order_, ancestor_,
      random_blocks_;
};

}  // namespace tilewise::expr
