// Memory for the work of one thread, kept from call to call: to be given fresh pages, and to have them zeroed, costs a
// sixth of the time of a warm batch of small problems.
#pragma once
#include <cstdint>
#include <cstdlib>
#include <mutex>
#include <string>
#include <vector>

namespace gpudiff_entry {

// What waits for the next call. A block goes to calls of the same key alone, which says how its pieces are laid out:
// what a call never writes is zero for the next one, too, as it is for the next chunk of the same call.
class IdleMemory {
 public:
  static constexpr long kMost = 128l << 20;  // bytes; what has waited longest goes first

  struct Block {
    std::string key;
    void* memory;
    long bytes;
  };

  static IdleMemory& instance() {
    static IdleMemory& idle = *new IdleMemory;  // never destroyed: threads may outlive static objects
    return idle;
  }
  void* take(const std::string& key) {
    const std::unique_lock<std::mutex> lock(mutex, std::try_to_lock);  // a forked process may find it locked for ever
    if (!lock) return nullptr;
    for (std::size_t i = blocks.size(); i-- > 0;) {
      if (blocks[i].key != key) continue;
      void* memory = blocks[i].memory;
      total -= blocks[i].bytes;
      blocks.erase(blocks.begin() + long(i));
      return memory;
    }
    return nullptr;
  }
  void give(Block block) {
    const std::unique_lock<std::mutex> lock(mutex, std::try_to_lock);
    if (!lock || block.bytes > kMost) return std::free(block.memory);
    total += block.bytes;
    blocks.push_back(std::move(block));
    drop_down_to(kMost);
  }
  void release() {
    const std::lock_guard<std::mutex> lock(mutex);
    drop_down_to(0);
  }

 private:
  std::mutex mutex;
  std::vector<Block> blocks;
  long total = 0;

  void drop_down_to(long most) {
    while (total > most && !blocks.empty()) {
      std::free(blocks.front().memory);
      total -= blocks.front().bytes;
      blocks.erase(blocks.begin());
    }
  }
};

// Aligned to a cache line; zero, but for what a call of the same key has left. calloc leaves fresh pages untouched:
// what a problem does not use costs nothing. `data` is null if there is none. Without a key, of this call alone.
struct Memory {
  IdleMemory::Block block;
  char* data;

  explicit Memory(long bytes, std::string key = {}) : block{std::move(key), nullptr, bytes + 64}, data(nullptr) {
    if (!block.key.empty()) block.memory = IdleMemory::instance().take(block.key);
    if (!block.memory) block.memory = std::calloc(std::size_t(block.bytes), 1);
    if (block.memory) data = reinterpret_cast<char*>((reinterpret_cast<std::uintptr_t>(block.memory) + 63) / 64 * 64);
  }
  Memory(const Memory&) = delete;
  ~Memory() {
    if (block.memory && !block.key.empty())
      IdleMemory::instance().give(std::move(block));
    else
      std::free(block.memory);
  }
};

// The bytes of what is appended: what distinguishes one layout from another.
class LayoutKey {
 public:
  std::string bytes;

  template <class Number>
  LayoutKey& add(Number value) {
    bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
    return *this;
  }
  template <class Number>
  LayoutKey& add(const Number* values, long count) {
    if (values) bytes.append(reinterpret_cast<const char*>(values), std::size_t(count) * sizeof *values);
    return *this;
  }
};

}  // namespace gpudiff_entry
