# find_package(Tilewise) and pkg-config; both are tested by tests/install.
include(CMakePackageConfigHelpers)

install(TARGETS tilewise EXPORT TilewiseTargets
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY include/tilewise DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(EXPORT TilewiseTargets NAMESPACE Tilewise:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/Tilewise)

configure_package_config_file(cmake/TilewiseConfig.cmake.in ${CMAKE_CURRENT_BINARY_DIR}/TilewiseConfig.cmake
  INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/Tilewise)
# Before 1.0 a minor version may change the interface (CHANGELOG.md).
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/TilewiseConfigVersion.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/TilewiseConfig.cmake
              ${CMAKE_CURRENT_BINARY_DIR}/TilewiseConfigVersion.cmake
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/Tilewise)

# From <prefix>/<libdir>/pkgconfig back to <prefix>; libdir may have several parts (lib/x86_64-linux-gnu).
file(RELATIVE_PATH TILEWISE_PC_TO_PREFIX "/${CMAKE_INSTALL_LIBDIR}/pkgconfig" "/")
configure_file(cmake/tilewise.pc.in ${CMAKE_CURRENT_BINARY_DIR}/tilewise.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/tilewise.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
