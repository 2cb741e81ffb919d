#include "BoundedVisitor.hpp"

#include <pthread.h>

#include <cstdio>
#include <mutex>

using valijson::adapters::NlohmannJsonAdapter;

namespace bounded {

std::string pointer(const std::vector<std::string> &context) {
  std::string result;
  // The first is the root.
  for (size_t level = 1; level < context.size(); level++) {
    const std::string &part = context[level];
    result += '/';
    for (size_t index = 1; index + 1 < part.size(); index++) {
      switch (part[index]) {
        case '~': result += "~0"; break;
        case '/': result += "~1"; break;
        default: result += part[index];
      }
    }
  }
  return result;
}

const char *keyword(const valijson::constraints::Constraint &constraint) {
  using namespace valijson::constraints;
  if (dynamic_cast<const AllOfConstraint *>(&constraint)) return "allOf";
  if (dynamic_cast<const AnyOfConstraint *>(&constraint)) return "anyOf";
  if (dynamic_cast<const ConditionalConstraint *>(&constraint)) return "if";
  if (dynamic_cast<const ConstConstraint *>(&constraint)) return "const";
  if (dynamic_cast<const ContainsConstraint *>(&constraint)) return "contains";
  if (dynamic_cast<const DependenciesConstraint *>(&constraint)) return "dependencies";
  if (dynamic_cast<const EnumConstraint *>(&constraint)) return "enum";
  if (dynamic_cast<const FormatConstraint *>(&constraint)) return "format";
  if (dynamic_cast<const LinearItemsConstraint *>(&constraint)) return "items";
  if (dynamic_cast<const MaxItemsConstraint *>(&constraint)) return "maxItems";
  if (dynamic_cast<const MaxLengthConstraint *>(&constraint)) return "maxLength";
  if (dynamic_cast<const MaxPropertiesConstraint *>(&constraint)) return "maxProperties";
  if (dynamic_cast<const MinItemsConstraint *>(&constraint)) return "minItems";
  if (dynamic_cast<const MinLengthConstraint *>(&constraint)) return "minLength";
  if (dynamic_cast<const MinPropertiesConstraint *>(&constraint)) return "minProperties";
  if (dynamic_cast<const MultipleOfDoubleConstraint *>(&constraint)) return "multipleOf";
  if (dynamic_cast<const MultipleOfIntConstraint *>(&constraint)) return "multipleOf";
  if (dynamic_cast<const NotConstraint *>(&constraint)) return "not";
  if (dynamic_cast<const OneOfConstraint *>(&constraint)) return "oneOf";
  if (dynamic_cast<const PatternConstraint *>(&constraint)) return "pattern";
  if (dynamic_cast<const PropertiesConstraint *>(&constraint)) return "properties";
  if (dynamic_cast<const PropertyNamesConstraint *>(&constraint)) return "propertyNames";
  if (dynamic_cast<const RequiredConstraint *>(&constraint)) return "required";
  if (dynamic_cast<const SingularItemsConstraint *>(&constraint)) return "items";
  if (dynamic_cast<const TypeConstraint *>(&constraint)) return "type";
  if (dynamic_cast<const UniqueItemsConstraint *>(&constraint)) return "uniqueItems";
  if (const auto *maximum = dynamic_cast<const MaximumConstraint *>(&constraint)) {
    return maximum->getExclusiveMaximum() ? "exclusiveMaximum" : "maximum";
  }
  if (const auto *minimum = dynamic_cast<const MinimumConstraint *>(&constraint)) {
    return minimum->getExclusiveMinimum() ? "exclusiveMinimum" : "minimum";
  }
  return "schema";
}

size_t characters(const std::string &text) {
  size_t count = 0;
  for (const char byte : text) count += (static_cast<unsigned char>(byte) & 0xC0) != 0x80;
  return count;
}

namespace {

/// Reads a date or time from its beginning to its end.
struct Clock {
  const char *at;
  const char *end;

  bool take(char character) { return at < end && *at == character && ++at; }

  bool digits(int count, int lowest, int highest, int *value = nullptr) {
    int number = 0;
    for (int index = 0; index < count; index++, at++) {
      if (at >= end || *at < '0' || *at > '9') return false;
      number = number * 10 + (*at - '0');
    }
    if (value) *value = number;
    return number >= lowest && number <= highest;
  }

  bool date() {
    int year = 0, month = 0, day = 0;
    if (!digits(4, 0, 9999, &year) || !take('-') || !digits(2, 1, 12, &month) || !take('-')) return false;
    static const int days[] = {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    const bool is_leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return digits(2, 1, month == 2 && !is_leap ? 28 : days[month - 1], &day);
  }

  /// RFC 3339, section 5.6: with an offset; a leap second may come at any minute.
  bool time() {
    if (!digits(2, 0, 23) || !take(':') || !digits(2, 0, 59) || !take(':') || !digits(2, 0, 60)) return false;
    if (take('.')) {
      if (!digits(1, 0, 9)) return false;
      while (at < end && *at >= '0' && *at <= '9') at++;
    }
    if (take('Z') || take('z')) return true;
    return (take('+') || take('-')) && digits(2, 0, 23) && take(':') && digits(2, 0, 59);
  }
};

}  // namespace

bool has_format(const std::string &format, const std::string &text) {
  Clock clock{text.data(), text.data() + text.size()};
  bool fits = true;
  if (format == "date") {
    fits = clock.date();
  } else if (format == "time") {
    fits = clock.time();
  } else if (format == "date-time") {
    fits = clock.date() && (clock.take('T') || clock.take('t')) && clock.time();
  } else {
    return true;
  }
  return fits && clock.at == clock.end;
}

}  // namespace bounded

struct valijson_shim_schema {
  valijson::Schema schema;
  /// Compiled patterns, a set for each check that has ever run beside others.
  std::mutex lock;
  std::vector<std::unique_ptr<bounded::Patterns>> idle;

  std::unique_ptr<bounded::Patterns> take() {
    std::lock_guard<std::mutex> guard(lock);
    if (idle.empty()) return std::make_unique<bounded::Patterns>();
    auto patterns = std::move(idle.back());
    idle.pop_back();
    return patterns;
  }

  void give_back(std::unique_ptr<bounded::Patterns> patterns) {
    std::lock_guard<std::mutex> guard(lock);
    if (idle.size() < 64) idle.push_back(std::move(patterns));
  }
};

namespace {

/// Numbers that are whole are integers, however they are written: 1.0 is 1, as drafts since 6 have it. What does not fit
/// into 64 bits with a sign is a double: valijson would take 2^64 - 1 for -1.
nlohmann::json parse(const uint8_t *json, size_t size) {
  const auto whole = [](int, nlohmann::json::parse_event_t event, nlohmann::json &parsed) {
    if (event == nlohmann::json::parse_event_t::value && parsed.is_number_float()) {
      const double number = parsed.get<double>();
      if (std::fabs(number) < 9007199254740992.0 && number == std::floor(number)) {
        parsed = static_cast<int64_t>(number);
      }
    } else if (event == nlohmann::json::parse_event_t::value && parsed.is_number_unsigned()) {
      const uint64_t number = parsed.get<uint64_t>();
      if (number > INT64_MAX) parsed = static_cast<double>(number);
    }
    return true;
  };
  return nlohmann::json::parse(json, json + size, whole, false);
}

}  // namespace

namespace {

/// What is to be compiled, and what became of it.
struct Compilation {
  const uint8_t *json;
  size_t size;
  int32_t draft;
  char *problem;
  size_t capacity;
  valijson_shim_schema *schema = nullptr;

  void run() {
    try {
      const nlohmann::json document = parse(json, size);
      if (document.is_discarded()) throw std::runtime_error("it is not JSON, or a number in it is too large");
      auto compiled = std::make_unique<valijson_shim_schema>();
      valijson::SchemaParser parser(
          draft == 4 ? valijson::SchemaParser::kDraft4 : valijson::SchemaParser::kDraft7);
      parser.populateSchema(NlohmannJsonAdapter(document), compiled->schema);
      schema = compiled.release();
    } catch (const std::exception &error) {
      snprintf(problem, capacity, "%s", error.what());
    } catch (...) {
      snprintf(problem, capacity, "an unknown failure");
    }
  }
};

}  // namespace

valijson_shim_schema *valijson_shim_open(
    const uint8_t *json, size_t size, int32_t draft, size_t stack_size, char *problem, size_t capacity) {
  Compilation compilation{json, size, draft, problem, capacity};
  if (stack_size == 0) {
    compilation.run();
    return compilation.schema;
  }
  pthread_attr_t attributes;
  pthread_t thread;
  int code = pthread_attr_init(&attributes);
  if (code == 0) {
    code = pthread_attr_setstacksize(&attributes, stack_size);
    if (code == 0) {
      const auto body = [](void *compilation) -> void * {
        static_cast<Compilation *>(compilation)->run();
        return nullptr;
      };
      code = pthread_create(&thread, &attributes, body, &compilation);
    }
    pthread_attr_destroy(&attributes);
  }
  if (code == 0) {
    pthread_join(thread, nullptr);
  } else {
    snprintf(problem, capacity, "there is no thread for it: %s", strerror(code));
  }
  return compilation.schema;
}

void valijson_shim_close(valijson_shim_schema *schema) { delete schema; }

valijson_shim_result valijson_shim_check(
    valijson_shim_schema *schema, const uint8_t *json, size_t size, const valijson_shim_bounds *bounds, void *context,
    valijson_shim_difference report) {
  try {
    const nlohmann::json value = parse(json, size);
    if (value.is_discarded()) return VALIJSON_SHIM_UNREADABLE;
    auto patterns = schema->take();
    bounded::Check check(*patterns, *bounds);
    valijson::ValidationResults results;
    valijson_shim_result result;
    try {
      valijson::ValidationVisitor<NlohmannJsonAdapter> visitor(
          NlohmannJsonAdapter(value), std::vector<std::string>(1, "<root>"), true, report ? &results : nullptr, check);
      result = visitor.validateSchema(schema->schema) ? VALIJSON_SHIM_FITS : VALIJSON_SHIM_DIFFERS;
    } catch (const bounded::Stop &stop) {
      result = stop.result;
    }
    schema->give_back(std::move(patterns));
    if (report && result == VALIJSON_SHIM_DIFFERS) {
      if (check.differences.empty()) check.differences.push_back({"", "schema", "No value fits."});
      for (const auto &difference : check.differences) {
        report(
            context, difference.pointer.data(), difference.pointer.size(), difference.keyword, difference.text.data(),
            difference.text.size());
      }
    }
    return result;
  } catch (...) {
    return VALIJSON_SHIM_FAILED;
  }
}
