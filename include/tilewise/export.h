/* SPDX-License-Identifier: Apache-2.0 */
/* Also included by C: everything else is compiled with hidden visibility. */
#ifndef TILEWISE_EXPORT_H
#define TILEWISE_EXPORT_H

#define TILEWISE_API __attribute__((visibility("default")))

#endif
