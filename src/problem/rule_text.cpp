// SPDX-License-Identifier: Apache-2.0
// From "longformer:window=512,global=16" to an expression and back, and the border for all text.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>

#include "expr/parse.h"
#include "expr/print.h"
#include "expr/tokens.h"
#include "problem/reject.h"
#include "problem/rules.h"
#include "tilewise/rules.h"

namespace tilewise {
namespace {

template <class Number>
std::optional<Number> number_from(const std::string& text) {
  Number value = 0;
  const char* const last = text.data() + text.size();
  const auto [end, error] = std::from_chars(text.data(), last, value);
  if (error != std::errc() || end != last) return std::nullopt;
  return value;
}

// The shortest text of the same number; nothing if it is none.
std::optional<std::string> canonical(ParameterKind kind, const std::string& text) {
  const auto shortest = [](auto value) -> std::optional<std::string> {
    char buffer[32];
    if (!value) return std::nullopt;
    return std::string(buffer, std::to_chars(buffer, buffer + sizeof buffer, *value).ptr);
  };
  return kind == ParameterKind::kPositive ? shortest(number_from<double>(text))
                                          : shortest(number_from<int64_t>(text));
}

void require_argument(const Rule& rule, const RuleParameter& parameter, const std::string& text) {
  if (parameter.kind == ParameterKind::kPositive) {
    const auto value = number_from<double>(text);
    if (!value || !(*value > 0) || !std::isfinite(*value))
      reject(rule.name, parameter.name, text, "a positive number");
    return;
  }
  const auto value = number_from<int64_t>(text);
  if (!value) reject(rule.name, parameter.name, text, "an integer of 64 bits");
  const int64_t least = parameter.kind == ParameterKind::kSize ? 1 : 0;
  if (*value < least) reject(rule.name, parameter.name, text, text_of(least) + " or more");
}

// The formula with the arguments in place of the parameters' names.
std::string fill_in(const Rule& rule, const std::vector<std::string>& arguments) {
  const expr::Source source{rule.name, rule.formula};
  std::string text;
  size_t copied = 0;
  for (expr::Token token = next_token(source, 0); token.kind != expr::TokenKind::kEnd;
       token = next_token(source, token.at + token.text.size())) {
    for (size_t i = 0; i < arguments.size(); ++i) {
      if (token.text != rule.parameters[i].name) continue;
      text.append(source.text.substr(copied, token.at - copied)).append(arguments[i]);
      copied = token.at + token.text.size();
    }
  }
  return text.append(source.text.substr(copied));
}

// "window:128,0"; every other rule names its arguments.
std::string name_of(const Rule& rule, const std::vector<std::string>& arguments) {
  std::string name = rule.name;
  for (size_t i = 0; i < arguments.size(); ++i) {
    name += i == 0 ? ':' : ',';
    if (name.compare(0, 7, "window:") != 0) name.append(rule.parameters[i].name).append("=");
    name += arguments[i];
  }
  return name;
}

// Reads "128,0" or "window=512,global=16"; values by position come before values by name.
class Arguments {
 public:
  Arguments(const char* operation, const std::string& text, const Rule& rule)
      : operation_(operation), text_(text), rule_(rule), given_(rule.parameters.size()) {}

  std::vector<std::string> read(const std::string& list) {
    for (size_t first = 0; first <= list.size();) {
      const size_t comma = std::min(list.find(',', first), list.size());
      take(list.substr(first, comma - first));
      first = comma + 1;
    }
    return complete();
  }
  // With the defaults of what was not given.
  std::vector<std::string> complete() {
    std::vector<std::string> result;
    for (size_t i = 0; i < given_.size(); ++i) {
      const RuleParameter& parameter = rule_.parameters[i];
      if (!given_[i] && parameter.preset == nullptr)
        wrong(std::string(parameter.name) + " must be given");
      result.push_back(given_[i] ? *given_[i] : parameter.preset);
    }
    return result;
  }

 private:
  [[noreturn]] void wrong(const std::string& why) const {
    reject(operation_, "text", '"' + text_ + '"', usage_of(rule_), why);
  }
  void take(const std::string& argument) {
    const size_t equals = argument.find('=');
    size_t i = position_++;
    std::string value = argument;
    if (equals != std::string::npos) {
      const std::string name = argument.substr(0, equals);
      for (i = 0; i < given_.size() && name != rule_.parameters[i].name;) ++i;
      if (i == given_.size()) wrong("it has no parameter '" + name + "'");
      value = argument.substr(equals + 1);
      position_ = given_.size();  // none by position after one by name
    }
    if (i >= given_.size()) wrong("'" + argument + "' is one too many");
    const RuleParameter& parameter = rule_.parameters[i];
    if (given_[i]) wrong(std::string(parameter.name) + " is given twice");
    given_[i] = canonical(parameter.kind, value);
    if (!given_[i]) wrong(std::string(parameter.name) + " must be a number");
  }

  const char* operation_;
  const std::string& text_;
  const Rule& rule_;
  std::vector<std::optional<std::string>> given_;
  size_t position_ = 0;
};

// The expression of a rule, or null if the text calls none.
std::shared_ptr<const expr::Expression> rule_from(const char* operation, const std::string& text,
                                                  bool is_score) {
  const bool is_marked = text.starts_with('@');
  const std::string call = text.substr(is_marked ? 1 : 0);
  const size_t colon = call.find(':');
  const Rule* rule = find_rule(call.substr(0, colon), is_score);
  if (rule != nullptr) {
    Arguments arguments(operation, text, *rule);
    return make_rule(*rule, colon == std::string::npos ? arguments.complete()
                                                       : arguments.read(call.substr(colon + 1)));
  }
  // A lone word would be a named number, but is a rule with a typing error.
  const size_t first = call.find_first_not_of(" \t\n"), last = call.find_last_not_of(" \t\n");
  const bool is_word =
      first != std::string::npos && expr::is_name(call.substr(first, last + 1 - first));
  if (!is_marked && colon == std::string::npos && !is_word) return nullptr;
  reject(operation, "text", '"' + text + '"',
         is_score ? "a rule such as softcap:cap=30, or an expression such as s + bias[h, q, k]"
                  : "a rule such as causal or window:128,0, or an expression such as k <= q",
         "docs/rules.md lists the rules");
}

std::shared_ptr<const expr::Expression> shared(expr::Expression expression) {
  (void)expr::print(expression);  // every rule has a text, or is refused here
  return std::make_shared<const expr::Expression>(std::move(expression));
}

}  // namespace

std::string usage_of(const Rule& rule) {
  std::string text = rule.name;
  for (const RuleParameter& parameter : rule.parameters) {
    text.append(&parameter == rule.parameters.data() ? ":" : ",").append(parameter.name);
    if (parameter.preset != nullptr) text.append("=").append(parameter.preset);
  }
  return text;
}

std::shared_ptr<const expr::Expression> make_rule(const Rule& rule,
                                                  const std::vector<std::string>& arguments) {
  for (size_t i = 0; i < arguments.size(); ++i)
    require_argument(rule, rule.parameters[i], arguments[i]);
  const std::string text = fill_in(rule, arguments);
  expr::Expression expression = rule.is_score ? expr::parse_score(text) : expr::parse_mask(text);
  expression.name = name_of(rule, arguments);
  return std::make_shared<const expr::Expression>(std::move(expression));
}

Mask mask_from_text(const std::string& text) {
  if (text == "none") return {};
  if (auto rule = rule_from("mask_from_text", text, false)) return Mask(std::move(rule));
  return Mask(shared(expr::parse_mask(text)));
}

Score score_from_text(const std::string& text) {
  if (text == "s") return {};
  if (auto rule = rule_from("score_from_text", text, true)) return Score(std::move(rule));
  return Score(shared(expr::parse_score(text)));
}

}  // namespace tilewise
