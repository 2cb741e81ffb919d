// The peers of the JSON text engine, on the same files: yajl, the fastest of Debian's parsers in C when nothing is built
// of the text, and simdjson, the fastest in C++. Usage: peers RUNS FILE; prints JSON lines.
#include <simdjson.h>
#include <yajl/yajl_parse.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

static std::string contents(const char *path) {
  FILE *file = fopen(path, "rb");
  if (!file) exit(66);
  std::string text;
  char buffer[1 << 16];
  size_t count;
  while ((count = fread(buffer, 1, sizeof buffer, file)) > 0) text.append(buffer, count);
  fclose(file);
  return text;
}

// One text a line.
static std::vector<std::pair<size_t, size_t>> lines(const std::string &text) {
  std::vector<std::pair<size_t, size_t>> found;
  size_t start = 0;
  while (start < text.size()) {
    size_t end = text.find('\n', start);
    if (end == std::string::npos) end = text.size();
    found.emplace_back(start, end - start);
    start = end + 1;
  }
  return found;
}

template <typename Body>
static void measure(const char *name, int runs, size_t bytes, Body body) {
  printf("{\"name\": \"%s\", \"runs\": [", name);
  for (int run = 0; run < runs; run++) {
    auto start = std::chrono::steady_clock::now();
    body();
    std::chrono::duration<double> passed = std::chrono::steady_clock::now() - start;
    printf("%s%.3f", run ? ", " : "", bytes / passed.count() / 1e6);
  }
  printf("]}\n");
}

int main(int count, char **arguments) {
  if (count != 3) return 64;
  int runs = atoi(arguments[1]);
  std::string text = contents(arguments[2]);
  auto all = lines(text);
  measure("yajl", runs, text.size(), [&] {
    yajl_callbacks callbacks = {};
    for (auto [start, size] : all) {
      yajl_handle handle = yajl_alloc(&callbacks, nullptr, nullptr);
      if (yajl_parse(handle, reinterpret_cast<const unsigned char *>(text.data()) + start, size) != yajl_status_ok ||
          yajl_complete_parse(handle) != yajl_status_ok)
        exit(65);
      yajl_free(handle);
    }
  });
  // The padding it wants is ours to give once, not to measure.
  simdjson::padded_string padded(text);
  simdjson::dom::parser parser;
  measure("simdjson", runs, text.size(), [&] {
    for (auto [start, size] : all) {
      simdjson::dom::element element;
      if (parser.parse(padded.data() + start, size, false).get(element)) exit(65);
    }
  });
}
