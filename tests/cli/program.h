// SPDX-License-Identifier: Apache-2.0
// Runs the command line as a user does: as a process.
#pragma once

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>
#include <string>
#include <vector>

#include "io/temporary_directory.h"

namespace tilewise::cli {

struct Outcome {
  int exit_code = -1;  // -1: killed by a signal
  std::string out;
  std::string err;
};

// prepare runs in the child before the program starts.
inline Outcome run_tilewise(const std::vector<std::string>& arguments,
                            const std::function<void()>& prepare = {}) {
  const io::TemporaryDirectory directory;
  const std::string out = directory.file("out");
  const std::string err = directory.file("err");
  const pid_t child = ::fork();
  if (child == 0) {
    ::dup2(::open(out.c_str(), O_CREAT | O_WRONLY, 0600), STDOUT_FILENO);
    ::dup2(::open(err.c_str(), O_CREAT | O_WRONLY, 0600), STDERR_FILENO);
    if (prepare) prepare();
    std::vector<char*> argv = {const_cast<char*>("tilewise")};
    for (const std::string& argument : arguments)
      argv.push_back(const_cast<char*>(argument.c_str()));
    argv.push_back(nullptr);
    ::execv(TILEWISE_PROGRAM, argv.data());
    ::_exit(127);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, io::read_bytes(out), io::read_bytes(err)};
}

}  // namespace tilewise::cli
