# The three ways to add something to the build. Source lists are explicit: no globs.

add_library(tilewise_options INTERFACE)
target_compile_options(tilewise_options INTERFACE
  -Wall -Wextra -Wno-psabi -fvisibility=hidden
  $<$<COMPILE_LANGUAGE:CXX>:-fvisibility-inlines-hidden>
  $<$<BOOL:${TILEWISE_WERROR}>:-Werror>)
if(TILEWISE_SANITIZE)
  # Without the last option UBSan reports and goes on, and the test passes.
  set(_sanitize -fsanitize=${TILEWISE_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  # What judges results (TILEWISE_JUDGES) is not under test, runs on one thread when all others have ended, and took most
  # of the time of the tests.
  target_compile_options(tilewise_options INTERFACE
    "$<$<NOT:$<BOOL:$<TARGET_PROPERTY:TILEWISE_JUDGES>>>:${_sanitize}>" $<$<BOOL:$<TARGET_PROPERTY:TILEWISE_JUDGES>>:-O2>)
  target_link_options(tilewise_options INTERFACE -fsanitize=${TILEWISE_SANITIZE})
endif()

# tilewise_add_library(<folder> SOURCES ... ) : an object library of libtilewise. Layers are checked
# by tools/dev/check_layers.py, so every folder sees the same two include roots.
set_property(GLOBAL PROPERTY TILEWISE_OBJECT_LIBRARIES "")
function(tilewise_add_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES" ${ARGN})
  add_library(tilewise_${name} OBJECT ${ARG_SOURCES})
  target_include_directories(tilewise_${name} PRIVATE ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR}/include)
  target_link_libraries(tilewise_${name} PRIVATE tilewise_options)
  set_property(GLOBAL APPEND PROPERTY TILEWISE_OBJECT_LIBRARIES tilewise_${name})
endfunction()

# tilewise_add_test(<name> SOURCES ... [LIBRARIES ...] [LABELS ...] [TIMEOUT seconds]) : one GoogleTest program per folder.
function(tilewise_add_test name)
  cmake_parse_arguments(ARG "" "TIMEOUT" "SOURCES;LIBRARIES;LABELS" ${ARGN})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 120)
  endif()
  if(TILEWISE_SANITIZE)
    math(EXPR ARG_TIMEOUT "5 * ${ARG_TIMEOUT}")
  endif()
  if(NOT ARG_LABELS)
    set(ARG_LABELS unit)
  endif()
  add_executable(${name} ${ARG_SOURCES})
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR}/tests)
  target_link_libraries(${name} PRIVATE tilewise_internal ${ARG_LIBRARIES} GTest::gtest_main)
  # Tests are not hot; the vocabularies, which are, set -O3 for their files. With -O0 under sanitizers they compile in half
  # the time, but one of them alone (ZooTiles) then runs for a minute.
  target_compile_options(${name} PRIVATE -O1)
  target_compile_definitions(${name} PRIVATE TILEWISE_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  # ./test builds one label at a time where it needs no more: target tests_unit, tests_property, ...
  foreach(_label ${ARG_LABELS})
    if(NOT TARGET tests_${_label})
      add_custom_target(tests_${_label})
    endif()
    add_dependencies(tests_${_label} ${name})
  endforeach()
  gtest_discover_tests(${name} DISCOVERY_TIMEOUT 60
    PROPERTIES TIMEOUT ${ARG_TIMEOUT} LABELS "${ARG_LABELS}")
endfunction()
