// SPDX-License-Identifier: Apache-2.0
// The library's own pool. One job runs on it at a time; a run() that finds it busy, which includes
// one called from inside a task, does all its tasks on the calling thread: slower, never stuck.
#include "tilewise/executor.h"

#include <pthread.h>

#include <array>
#include <atomic>
#include <chrono>
#include <memory>
#include <new>
#include <system_error>
#include <thread>

#include "base/cpu_features.h"
#include "base/environment.h"

namespace tilewise {

Executor::~Executor() = default;

namespace {

constexpr int kMaxThreads = 256;  // beyond, tasks run one after the other on the caller
// A sleeping thread costs about 5 us to wake. Kernels follow one another within less than this;
// longer spinning would take cores from the application's own threads.
constexpr std::chrono::microseconds kSpinTime(20);

void pause_cpu() noexcept {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

// Returns the first value that differs from old: spins, then sleeps.
int wait_for_change(const std::atomic<int>& value, int old) noexcept {
  const auto end = std::chrono::steady_clock::now() + kSpinTime;
  do {
    for (int i = 0; i < 32; ++i) {
      const int now = value.load(std::memory_order_acquire);
      if (now != old) return now;
      pause_cpu();
    }
  } while (std::chrono::steady_clock::now() < end);
  value.wait(old, std::memory_order_acquire);
  return value.load(std::memory_order_acquire);
}

struct Job {
  void (*task)(void* context, int worker) = nullptr;
  void* context = nullptr;
};

// The threads and what they share. Only the holder of Pool::busy_ calls its functions.
//
// A call is an odd number in the seat of its thread. The thread takes it, or, where it has not
// woken up before the caller is done with its own task, the caller: nobody waits for a thread to
// wake up, and a second worker costs no more than waking it.
class Crew {
 public:
  ~Crew() {
    job_ = {};
    for (int w = 1; w <= started_; ++w) call(w);
    for (int w = 1; w <= started_; ++w) seats_[w]->thread.join();
  }

  void run(int workers, Job job) noexcept {
    const int present = start_threads(workers - 1);
    const int called = workers - 1 < present ? workers - 1 : present;
    job_ = job;
    unfinished_.store(called, std::memory_order_relaxed);
    for (int w = 1; w <= called; ++w) call(w);
    job.task(job.context, 0);
    for (int w = called + 1; w < workers; ++w) job.task(job.context, w);
    for (int w = 1; w <= called; ++w) {
      if (!takes_call(w)) continue;
      job.task(job.context, w);
      unfinished_.fetch_sub(1, std::memory_order_relaxed);
    }
    for (int left = unfinished_.load(std::memory_order_acquire); left != 0;) {
      left = wait_for_change(unfinished_, left);
    }
  }

 private:
  struct alignas(64) Seat {
    std::atomic<int> calls = 0;
    std::thread thread;
  };

  void call(int w) noexcept {
    seats_[w]->calls.fetch_add(1, std::memory_order_release);  // publishes job_ and unfinished_
    seats_[w]->calls.notify_one();
  }

  // True for one of those who ask while a call is open.
  bool takes_call(int w) noexcept {
    int number = seats_[w]->calls.load(std::memory_order_relaxed);
    return number % 2 != 0 &&
           seats_[w]->calls.compare_exchange_strong(number, number + 1, std::memory_order_acquire);
  }

  // Returns how many threads exist; fewer than wanted where the system refuses more.
  int start_threads(int wanted) noexcept {
    try {
      while (started_ < wanted && started_ < kMaxThreads) {
        const int w = started_ + 1;
        if (seats_[w] == nullptr) seats_[w] = std::make_unique<Seat>();
        seats_[w]->thread = std::thread([this, w] { serve(w); });
        started_ = w;
      }
    } catch (const std::system_error&) {
    } catch (const std::bad_alloc&) {
    }
    return started_;
  }

  void serve(int w) noexcept {
    int seen = 0;
    while (true) {
      seen = wait_for_change(seats_[w]->calls, seen);
      if (!takes_call(w)) continue;
      if (job_.task == nullptr) return;
      job_.task(job_.context, w);
      // Only the caller waits here, and after the last decrement it may start the next job.
      if (unfinished_.fetch_sub(1, std::memory_order_acq_rel) == 1) unfinished_.notify_one();
    }
  }

  Job job_;
  alignas(64) std::atomic<int> unfinished_ = 0;
  std::array<std::unique_ptr<Seat>, kMaxThreads + 1> seats_;  // seat 0 is the caller's: unused
  int started_ = 0;
};

class Pool final : public Executor {
 public:
  Pool() : max_workers_(environment::num_threads()) {
    if (max_workers_ == 0) max_workers_ = allowed_threads();
  }

  [[nodiscard]] int max_workers() const noexcept override { return max_workers_; }

  void run(int workers, void (*task)(void* context, int worker), void* context) override {
    if (workers > 1 && !busy_.exchange(true, std::memory_order_acquire)) {
      if (crew_ == nullptr) crew_.reset(new (std::nothrow) Crew);
      if (crew_ != nullptr) crew_->run(workers, {task, context});
      const bool done = crew_ != nullptr;
      busy_.store(false, std::memory_order_release);
      if (done) return;
    }
    for (int w = 0; w < workers; ++w) task(context, w);
  }

  // In a child of fork() the threads do not exist and their state may be half-written, so it is
  // left alone (its memory stays reachable through forgotten_) and the next run() starts anew.
  void forget_threads() noexcept {
    forgotten_ = crew_.release();
    busy_.store(false, std::memory_order_relaxed);
  }

 private:
  int max_workers_;
  std::atomic<bool> busy_ = false;
  std::unique_ptr<Crew> crew_;
  Crew* forgotten_ = nullptr;
};

Pool& pool() {
  static Pool instance;  // destroyed at exit, which joins the threads
  return instance;
}

}  // namespace

Executor& default_executor() {
  static const int fork_handler =
      (static_cast<void>(pool()),
       pthread_atfork(nullptr, nullptr, [] { pool().forget_threads(); }));
  static_cast<void>(fork_handler);
  return pool();
}

}  // namespace tilewise
