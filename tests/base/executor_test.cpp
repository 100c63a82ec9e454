// SPDX-License-Identifier: Apache-2.0
#include "tilewise/executor.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <set>
#include <thread>
#include <vector>

#include "base/cpu_features.h"
#include "support/sanitizers.h"

#if defined(__SANITIZE_THREAD__)
// TSan's default is to end a child that starts threads after a fork of a process with threads.
extern "C" TILEWISE_API const char* __tsan_default_options() { return "die_after_fork=0"; }
#endif

namespace tilewise {
namespace {

// Calls body(worker) on the pool: the function pointer of the interface, as a lambda.
template <class Body>
void run(int workers, Body&& body) {
  default_executor().run(
      workers, [](void* context, int worker) { (*static_cast<Body*>(context))(worker); }, &body);
}

// True if every worker of [0, workers) was called exactly once.
bool each_worker_once(int workers) {
  std::vector<std::atomic<int>> calls(static_cast<size_t>(workers));
  run(workers, [&calls](int worker) { ++calls[static_cast<size_t>(worker)]; });
  for (const auto& count : calls) {
    if (count != 1) return false;
  }
  return true;
}

TEST(Executor, HasAsManyWorkersAsTheProcessMayUse) {
  EXPECT_GE(default_executor().max_workers(), 1);
  if (std::getenv("TILEWISE_NUM_THREADS") == nullptr) {
    EXPECT_EQ(default_executor().max_workers(), allowed_threads());
  }
}

TEST(Executor, CallsEveryWorkerOnce) {
  for (int workers : {0, 1, 2, 3, 8, 1, 17, 2, 300}) {
    EXPECT_TRUE(each_worker_once(workers)) << workers;
  }
}

TEST(Executor, ManySmallJobsInARow) {
  for (int i = 0; i < 2000; ++i) ASSERT_TRUE(each_worker_once(1 + i % 4)) << i;
}

TEST(Executor, OneWorkerAndWorker0RunOnTheCaller) {
  const std::thread::id caller = std::this_thread::get_id();
  std::thread::id only, first;
  run(1, [&only](int) { only = std::this_thread::get_id(); });
  run(3, [&first](int worker) {
    if (worker == 0) first = std::this_thread::get_id();
  });
  EXPECT_EQ(only, caller);
  EXPECT_EQ(first, caller);
}

// Every task waits for all the others, so this returns only if all eight run at the same time,
// also on a machine with fewer cores.
TEST(Executor, EightWorkersRunAtTheSameTimeOnAnyMachine) {
  std::atomic<int> arrived = 0;
  run(8, [&arrived](int) {
    ++arrived;
    while (arrived < 8) std::this_thread::yield();
  });
  EXPECT_EQ(arrived, 8);
}

// Nobody waits for a thread to wake up: of tasks with nothing to do the caller takes most.
TEST(Executor, TheCallerTakesWhatNoThreadHasTaken) {
  const std::thread::id caller = std::this_thread::get_id();
  std::atomic<int> taken = 0;
  for (int round = 0; round < 2000 && taken == 0; ++round) {
    run(17, [&](int worker) { taken += worker > 0 && std::this_thread::get_id() == caller; });
  }
  EXPECT_GT(taken, 0);
}

TEST(Executor, WritesOfTheTasksAreVisibleAfterwards) {
  for (int round = 0; round < 200; ++round) {
    std::vector<int> plain(4, -1);  // not atomic: TSan watches
    run(4, [&plain, round](int worker) { plain[static_cast<size_t>(worker)] = round + worker; });
    for (int w = 0; w < 4; ++w) ASSERT_EQ(plain[static_cast<size_t>(w)], round + w);
  }
}

TEST(Executor, NestedCallsFinish) {
  std::atomic<int> inner = 0;
  run(4, [&inner](int) { run(3, [&inner](int) { ++inner; }); });
  EXPECT_EQ(inner, 12);
}

TEST(Executor, CallsFromManyThreadsFinish) {
  std::atomic<int> failures = 0;
  std::vector<std::thread> callers;
  for (int c = 0; c < 6; ++c) {
    callers.emplace_back([&failures] {
      for (int i = 0; i < 300; ++i) failures += !each_worker_once(3);
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(failures, 0);
}

// AddressSanitizer's allocator is locked while some thread allocates, and a fork at that time
// copies the lock.
constexpr bool kForkMayHang = test::kAddressSanitizer;

// Exit status 0 if body() returned true in a child of fork().
template <class Body>
int status_of_child(Body&& body) {
  const pid_t child = fork();
  if (child == 0) _exit(body() ? 0 : 1);
  int status = -1;
  waitpid(child, &status, 0);
  return status;
}

TEST(Executor, StartsAnewInAChildOfFork) {
  if (kForkMayHang) GTEST_SKIP() << "a child of fork() may inherit a held lock of this allocator";
  ASSERT_TRUE(each_worker_once(4));  // the parent has threads that the child has not
  EXPECT_EQ(status_of_child([] {
              std::atomic<int> arrived = 0;
              run(4, [&arrived](int) {
                ++arrived;
                while (arrived < 4) std::this_thread::yield();
              });
              return arrived == 4 && each_worker_once(2);
            }),
            0);
  EXPECT_TRUE(each_worker_once(4));
}

TEST(Executor, AChildForkedWhileThePoolIsBusyIsFree) {
  if (kForkMayHang) GTEST_SKIP() << "a child of fork() may inherit a held lock of this allocator";
  std::atomic<bool> is_running = false, may_end = false;
  std::thread other([&] {
    run(2, [&](int) {
      is_running = true;
      while (!may_end) std::this_thread::yield();
    });
  });
  while (!is_running) std::this_thread::yield();
  const int status = status_of_child([] {
    std::atomic<int> arrived = 0;
    run(3, [&arrived](int) {  // returns only if the child's pool is not taken for busy
      ++arrived;
      while (arrived < 3) std::this_thread::yield();
    });
    return true;
  });
  may_end = true;
  other.join();
  EXPECT_EQ(status, 0);
}

TEST(Executor, ThreadsAreJoinedAtExit) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");  // a new process, not a fork of this one
  EXPECT_EXIT(
      {
        if (!each_worker_once(4)) std::exit(1);
        std::exit(0);  // runs the destructors of static objects
      },
      testing::ExitedWithCode(0), "^$");
}

}  // namespace
}  // namespace tilewise
