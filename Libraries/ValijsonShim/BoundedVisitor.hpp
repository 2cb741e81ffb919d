// valijson's visitor, with bounds. Every visitor of one check carries a reference to one cache of regular expressions;
// here that cache is the base of `Check`, which so reaches every place that needs it without a global.
//
// What is replaced, by explicit specialisation for the two adapters in use:
// - validateSchema: counts depth, asks the clock, and gathers what differs with its keyword
// - pattern, patternProperties: ICU with a time limit; std::regex recurses once a character and knows no limit
// - format: date, time and date-time by hand, for the same reason, and only for strings
// - uniqueItems: by sorting; valijson compares each item with each
// - minLength, maxLength: the whole string; valijson's count ends at U+0000
// - multipleOf: fractions are not cut off, and nothing divides by zero
// - enum: each comparison counts
#ifndef BACKPLANE_BOUNDED_VISITOR_HPP
#define BACKPLANE_BOUNDED_VISITOR_HPP

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <vector>

// Without it valijson prints what is wrong and calls abort().
#define VALIJSON_USE_EXCEPTIONS 1

#include <nlohmann/json.hpp>
#include <valijson/adapters/nlohmann_json_adapter.hpp>
#include <valijson/adapters/std_string_adapter.hpp>
#include <valijson/schema.hpp>
#include <valijson/schema_parser.hpp>
#include <valijson/validation_results.hpp>
#include <valijson/validator.hpp>

#include <ICUShim.h>
#include <ValijsonShim.h>

namespace bounded {

/// Ends a check early.
struct Stop {
  valijson_shim_result result;
};

struct Difference {
  std::string pointer;
  const char *keyword;
  std::string text;
};

struct CloseRegex {
  void operator()(icu_shim_regex *regex) const { icu_shim_regex_close(regex); }
};

/// Compiled patterns: used by one check at a time.
using Patterns = std::unordered_map<std::string, std::unique_ptr<icu_shim_regex, CloseRegex>>;

/// What all visitors of one check have in common. The base is never filled.
struct Check : std::unordered_map<std::string, std::regex> {
  Patterns &patterns;
  const valijson_shim_bounds &bounds;
  uint32_t depth = 0;
  uint64_t steps = 0;
  std::vector<Difference> differences;

  Check(Patterns &patterns, const valijson_shim_bounds &bounds) : patterns(patterns), bounds(bounds) {}

  static Check &of(std::unordered_map<std::string, std::regex> &cache) { return static_cast<Check &>(cache); }

  void step() {
    if (++steps % 32 == 0 && icu_shim_now_ns() >= bounds.deadline_ns) throw Stop{VALIJSON_SHIM_TOO_SLOW};
  }

  bool matches(const std::string &pattern, const std::string &text) {
    step();
    auto found = patterns.find(pattern);
    if (found == patterns.end()) {
      icu_shim_regex *regex = nullptr;
      // The deadline ends a match; the bound on steps is only there because the engine wants one.
      icu_shim_regex_open(
          reinterpret_cast<const uint8_t *>(pattern.data()), pattern.size(), INT32_MAX, 4 << 20, &regex);
      if (regex == nullptr) throw Stop{VALIJSON_SHIM_FAILED};
      found = patterns.emplace(pattern, regex).first;
    }
    switch (icu_shim_regex_find(
        found->second.get(), reinterpret_cast<const uint8_t *>(text.data()), text.size(), bounds.deadline_ns)) {
      case ICU_SHIM_MATCH:
        return true;
      case ICU_SHIM_NO_MATCH:
        return false;
      case ICU_SHIM_FAILED:
        throw Stop{VALIJSON_SHIM_FAILED};
      default:
        throw Stop{VALIJSON_SHIM_TOO_SLOW};
    }
  }
};

/// "[name]" of each level as a JSON pointer.
std::string pointer(const std::vector<std::string> &context);
const char *keyword(const valijson::constraints::Constraint &constraint);
/// Whether `text` is of a format that is checked; true for every other format.
bool has_format(const std::string &format, const std::string &text);
size_t characters(const std::string &text);

inline bool fail(
    valijson::ValidationResults *results, const std::vector<std::string> &context, const std::string &text) {
  if (results) results->pushError(context, text);
  return false;
}

/// A text that two values have in common exactly when they are equal: numbers by value, members in one order.
template <typename Adapter>
void append_key(const Adapter &value, std::string &key, Check &check) {
  check.step();
  if (value.isArray()) {
    key += '[';
    for (const auto item : value.asArray()) {
      append_key(item, key, check);
      key += ',';
    }
    key += ']';
  } else if (value.isObject()) {
    // nlohmann::json keeps its members sorted.
    key += '{';
    for (const auto member : value.asObject()) {
      key += std::to_string(member.first.size()) + ':' + member.first;
      append_key(member.second, key, check);
    }
    key += '}';
  } else if (value.isString()) {
    const std::string text = value.asString();
    key += '"' + std::to_string(text.size()) + ':' + text;
  } else if (value.isBool()) {
    key += value.asBool() ? 't' : 'f';
  } else if (value.isInteger()) {
    key += 'i' + std::to_string(value.asInteger());
  } else if (value.isNumber()) {
    char text[40];
    snprintf(text, sizeof text, "d%.17g", value.asDouble());
    key += text;
  } else {
    key += 'n';
  }
}

template <typename Adapter>
bool unique_items(
    const Adapter &target, Check &check, valijson::ValidationResults *results,
    const std::vector<std::string> &context) {
  if (!target.isArray()) return true;
  std::vector<std::string> keys;
  for (const auto item : target.asArray()) {
    std::string key;
    append_key(item, key, check);
    keys.push_back(std::move(key));
  }
  std::sort(keys.begin(), keys.end());
  if (std::adjacent_find(keys.begin(), keys.end()) == keys.end()) return true;
  return fail(results, context, "Two items are equal.");
}

template <typename Adapter>
bool multiple_of(
    const Adapter &target, double divisor, int64_t whole, valijson::ValidationResults *results,
    const std::vector<std::string> &context, const std::string &shown) {
  bool fits;
  if (target.isInteger() && whole > 0) {
    fits = target.asInteger() % whole == 0;
  } else if (target.isNumber()) {
    const double value = target.isInteger() ? static_cast<double>(target.asInteger()) : target.asDouble();
    fits = divisor > 0 && std::fabs(std::remainder(value, divisor)) <= std::fabs(value) * DBL_EPSILON;
  } else {
    return true;
  }
  return fits || fail(results, context, "The number is not a multiple of " + shown + ".");
}

/// Applies a constraint and keeps what differs: of nested differences the innermost, and besides the whole choice when
/// it was one (anyOf, oneOf).
template <typename Apply>
bool explain(
    const valijson::constraints::Constraint &constraint, Check &check, const std::vector<std::string> &context,
    valijson::ValidationResults &results, Apply apply) {
  const size_t before = check.differences.size();
  const size_t errors_before = results.numErrors();
  if (apply()) {
    check.differences.resize(before);
    return true;
  }
  const bool is_choice = dynamic_cast<const valijson::constraints::AnyOfConstraint *>(&constraint)
      || dynamic_cast<const valijson::constraints::OneOfConstraint *>(&constraint);
  if ((check.differences.size() == before || is_choice) && check.differences.size() < check.bounds.differences_max) {
    std::string text;
    // Of a choice the last, which is about the choice itself.
    const size_t first = is_choice && results.numErrors() > 0 ? results.numErrors() - 1 : errors_before;
    for (auto error = results.begin() + std::min(first, results.numErrors()); error != results.end(); ++error) {
      if (error->context != context || text.size() > 1000) continue;
      text += (text.empty() ? "" : " ") + error->description;
    }
    if (text.empty()) text = "The value does not fit.";
    check.differences.push_back({pointer(context), keyword(constraint), text});
  }
  // Only what has just been read counts; a value of a million wrong items must not fill the memory.
  valijson::ValidationResults::Error error;
  while (results.numErrors() > 1000) results.popError(error);
  return false;
}

}  // namespace bounded

namespace valijson {

#define ADAPTER adapters::NlohmannJsonAdapter
#include "BoundedMembers.inc"
#undef ADAPTER

#define ADAPTER adapters::StdStringAdapter
#include "BoundedMembers.inc"
#undef ADAPTER

}  // namespace valijson

#endif
