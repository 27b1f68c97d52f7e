// Part of cuda_host.hpp: what the blocks of a launch share, and how a launch is asked to go.
//
// The environment sets what a caller leaves open: GD_EMULATED_SCHEDULE, GD_EMULATED_WORKERS, GD_EMULATED_LIMIT and
// GD_EMULATED_REMOVE.
#pragma once
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <stdexcept>
#include <string>
#include <vector>

#include "cuda_host_fiber.hpp"

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

namespace cuda_host {

// The order in which the threads of a block take turns.
struct Schedule {
  enum Kind { kAscending, kDescending, kRandom } kind = kAscending;
  uint64_t seed = 0;

  // "ascending", "descending" or "random:SEED".
  static Schedule parse(const std::string& text) {
    if (text.empty() || text == "ascending") return {};
    if (text == "descending") return {kDescending, 0};
    if (text.rfind("random:", 0) == 0 && text.size() > 7) {
      char* end = nullptr;
      const uint64_t seed = std::strtoull(text.c_str() + 7, &end, 10);
      if (*end == 0) return {kRandom, seed};
    }
    throw std::invalid_argument("schedule: expected ascending, descending or random:SEED, got " + text);
  }
};

inline std::string from_environment(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

struct Options {
  Schedule schedule = Schedule::parse(from_environment("GD_EMULATED_SCHEDULE"));
  // Threads of the operating system, over which the blocks of the grid are spread.
  int workers = std::max(1, std::atoi(from_environment("GD_EMULATED_WORKERS").c_str()));
  // Switches between threads after which a block is given up: about a minute.
  unsigned long long limit = 2'000'000'000;

  Options() {
    const std::string asked = from_environment("GD_EMULATED_LIMIT");
    if (!asked.empty()) limit = std::strtoull(asked.c_str(), nullptr, 10);
  }
};

// Where a barrier stands in the source.
struct Site {
  const char* file = nullptr;
  int line = 0;

  CUDA_HOST_UNSEEN bool operator==(const Site& other) const {
    return line == other.line && (file == other.file || (file && other.file && std::strcmp(file, other.file) == 0));
  }
  std::string text() const {
    const char* slash = file ? std::strrchr(file, '/') : nullptr;
    return std::string(slash ? slash + 1 : file ? file : "?") + ":" + std::to_string(line);
  }
};

// The barriers that a block has met, each once.
class SiteTable {
 public:
  CUDA_HOST_UNSEEN void add(const Site& site) {
    for (size_t at = (reinterpret_cast<size_t>(site.file) + size_t(site.line) * 7) % kSize, i = 0; i < kSize; i++) {
      Site& here = sites_[(at + i) % kSize];
      if (here.line == site.line && here.file == site.file) return;
      if (!here.file) {
        here = site;
        return;
      }
    }
  }
  template <class Action>
  void take(Action action) {
    for (Site& site : sites_) {
      if (site.file) action(site);
      site = {};
    }
  }

 private:
  static constexpr size_t kSize = 1024;
  Site sites_[kSize];
};

// Barriers that are left out, to prove that their absence shows.
class Removal {
 public:
  // The barrier at a line of the files whose path contains `file`; line 0: all of theirs.
  void set(const std::string& file, int line) {
    file_ = file;
    line_ = line;
    active_ = true;
  }
  void clear() { active_ = false; }
  // "FILE:LINE", "all", or "" for none.
  void parse(const std::string& text) {
    const size_t colon = text.rfind(':');
    if (text.empty()) return clear();
    if (text == "all") return set("", 0);
    if (colon == std::string::npos || std::atoi(text.c_str() + colon + 1) <= 0)
      throw std::invalid_argument("barrier to remove: expected FILE:LINE or all, got " + text);
    set(text.substr(0, colon), std::atoi(text.c_str() + colon + 1));
  }
  CUDA_HOST_UNSEEN bool removes(const char* file, int line) const {
    return active_ && (line_ == 0 || line_ == line) && std::strstr(file, file_.c_str());
  }

 private:
  std::string file_;
  int line_ = 0;
  bool active_ = false;
};

// What is known from launch to launch.
class Global {
 public:
  Global() { removal_.parse(from_environment("GD_EMULATED_REMOVE")); }
  Removal removal() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return removal_;
  }
  void set_removal(const Removal& removal) {
    const std::lock_guard<std::mutex> lock(mutex_);
    removal_ = removal;
  }
  // "FILE:LINE" of each barrier that any launch so far has met.
  std::vector<std::string> sites() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return sites_;
  }
  void merge(SiteTable& table) {
    const std::lock_guard<std::mutex> lock(mutex_);
    table.take([this](const Site& site) {
      const std::string text = site.text();
      if (std::find(sites_.begin(), sites_.end(), text) == sites_.end()) sites_.push_back(text);
    });
  }

 private:
  std::mutex mutex_;
  std::vector<std::string> sites_;
  Removal removal_;
};
inline Global& global() {
  static Global the_one;
  return the_one;
}

struct LaunchState {
  dim3 grid, threads;
  size_t shared_bytes = 0;
  Options options;
  const Removal removal = global().removal();
  void (*body)(const void*) = nullptr;
  const void* closure = nullptr;
  SanitizerOrder begun, ended;

  void fail(const std::string& message) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (error_.empty()) error_ = message;
  }
  std::string error() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return error_;
  }

 private:
  std::mutex mutex_;
  std::string error_;
};

}  // namespace cuda_host
